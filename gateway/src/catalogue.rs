//! The catalogue: what each part of the platform is, who is responsible for it, and how it is. Services describe
//! themselves in the `info` of their OpenAPI documents, and billing in its reports; the gateway gathers these, and
//! remembers the last ones of those that are down.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use edge::{Refusal, Request, Response};
use order::{question, report};
use serde_json::{Value, json};

use crate::billing_activity::{BillingActivity, BillingProgram};
use crate::settings::{ProfileSettings, Profiles, QueueSettings, ServiceSettings};
use crate::upstream::{self, UpstreamService};
use crate::watch::{PartState, Sight, Watch};
use crate::{assets, asyncapi, openapi};

/// How long an answer is reused, so that many readers cost the services no more than one.
const FRESH: Duration = Duration::from_secs(2);
/// The largest OpenAPI document of a service, in bytes.
const DOCUMENT_MAX_BYTES: u64 = 1 << 20;
/// The services whose documents are part of the gateway's own: inventory, the first one.
const DESCRIBED_HERE: usize = 1;

/// The name of the AsyncAPI document among the assets.
pub(crate) const ASYNCAPI_NAME: &str = "asyncapi.json";
const ASYNCAPI_PATH: &str = "/assets/asyncapi.json";
const OPENAPI_PATH: &str = "/openapi.json";

/// Answers /api/services, /openapi.json and /assets/asyncapi.json.
pub(crate) struct Catalogue {
    /// Inventory, then the further services; the settings are in the same order.
    services: Box<[&'static UpstreamService]>,
    settings: Box<[ServiceSettings]>,
    watch: Arc<Watch>,
    billing_activity: Arc<BillingActivity>,
    /// The queue of orders.
    queue: String,
    /// Who is responsible for what has no document of its own.
    profiles: Profiles,
    started: SystemTime,
    known: Mutex<Known>,
}

/// What was found out last.
struct Known {
    looked: Option<Instant>,
    services: Box<[Entry]>,
    /// What billing said of itself last.
    billing_program: BillingProgram,
    /// /openapi.json.
    openapi: Arc<[u8]>,
    /// /assets/asyncapi.json.
    asyncapi: Arc<[u8]>,
}

/// What is known of a service.
#[derive(Clone)]
struct Entry {
    /// The last OpenAPI document that it gave.
    document: Option<Value>,
    /// Whether it gave that document when it was asked last.
    is_current: bool,
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

impl Catalogue {
    /// `services` and `settings` are in the same order, inventory first.
    pub(crate) fn new(
        services: &[&'static UpstreamService],
        settings: &[ServiceSettings],
        watch: Arc<Watch>,
        billing_activity: Arc<BillingActivity>,
        queue: &QueueSettings,
        profiles: Profiles,
    ) -> Self {
        let entry = Entry { document: None, is_current: false };
        let known = Known {
            looked: None,
            services: vec![entry; services.len()].into(),
            billing_program: BillingProgram::default(),
            openapi: Arc::default(),
            asyncapi: Arc::default(),
        };
        Self {
            services: services.into(),
            settings: settings.into(),
            watch,
            billing_activity,
            queue: queue.queue.clone(),
            profiles,
            started: SystemTime::now(),
            known: Mutex::new(known),
        }
    }

    /// GET /openapi.json.
    pub(crate) fn serve_openapi(
        &self,
        request: &Request<'_>,
        response: &mut Response<'_>,
    ) -> Result<(), Refusal> {
        if self.services.len() == DESCRIBED_HERE {
            return assets::OPENAPI_JSON.serve(request, response);
        }
        let merged = self.with_known(|known| known.openapi.clone())?;
        response.send_json(200, &[("cache-control", "no-cache")], &merged)
    }

    /// GET /assets/asyncapi.json.
    pub(crate) fn serve_asyncapi(
        &self,
        request: &Request<'_>,
        response: &mut Response<'_>,
    ) -> Result<(), Refusal> {
        if self.services.len() == DESCRIBED_HERE {
            return assets::ASYNCAPI_JSON.serve(request, response);
        }
        let merged = self.with_known(|known| known.asyncapi.clone())?;
        response.send_json(200, &[("cache-control", "no-cache")], &merged)
    }

    /// GET /api/services.
    pub(crate) fn serve(&self, response: &mut Response<'_>) -> Result<(), Refusal> {
        let answer = self.with_known(|known| self.describe(known).to_string())?;
        response.send_json(200, &[("cache-control", "no-store")], answer.as_bytes())
    }

    /// Gives `use_it` what is known, after looking again if that is not fresh. Concurrent callers wait for one look.
    fn with_known<T>(&self, use_it: impl FnOnce(&mut Known) -> T) -> Result<T, Refusal> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.is_none_or(|looked| looked.elapsed() >= FRESH) {
            self.look(&mut known)?;
            known.looked = Some(Instant::now());
        }
        Ok(use_it(&mut known))
    }

    fn look(&self, known: &mut Known) -> Result<(), Refusal> {
        let documents = upstream::documents(&self.services, b"/openapi.json", DOCUMENT_MAX_BYTES);
        for (entry, document) in known.services.iter_mut().zip(documents) {
            let document = document.and_then(|json| serde_json::from_slice(&json).ok());
            entry.is_current = document.is_some();
            entry.document = document.or(entry.document.take());
        }
        let damaged = |_| Refusal::Internal("an embedded document is damaged");
        let mut openapi = assets::openapi().map_err(damaged)?;
        let mut asyncapi = assets::asyncapi().map_err(damaged)?;
        for (entry, settings) in known.services.iter().zip(&self.settings).skip(DESCRIBED_HERE) {
            openapi::merge(&mut openapi, settings, entry.document.as_ref(), entry.is_current);
            if let Some(document) = &entry.document {
                asyncapi::merge(&mut asyncapi, &settings.name, &document["info"]["x-asyncapi"]);
            }
        }
        known.openapi = openapi.to_string().into_bytes().into();
        known.asyncapi = asyncapi.to_string().into_bytes().into();
        Ok(())
    }

    fn describe(&self, known: &mut Known) -> Value {
        let sight = self.watch.glance();
        // Whoever is heard by now has also said what it is.
        if let Some(program) = self.billing_activity.program() {
            known.billing_program = program;
        }
        let states = known.services.iter().zip(&sight.services);
        let services = states.zip(&self.settings).map(|((entry, state), settings)| {
            let info = entry.document.as_ref().map_or(&Value::Null, |document| &document["info"]);
            let (exchange, events) = asyncapi::summary(&info["x-asyncapi"]);
            json!({
                "name": settings.name,
                "state": state.name,
                "since_s": state.since_s(),
                "started_s": info["x-started-s"],
                "version": info["version"],
                "about": info["description"].as_str().unwrap_or_default(),
                "path": settings.prefix,
                "owner": info["x-owner"],
                "contact": info["x-contact"],
                "repository": info["x-repository"],
                "resources": info["x-resources"].as_array().cloned().unwrap_or_default(),
                "depends_on": info["x-depends-on"].as_array().cloned().unwrap_or_default(),
                "queues": [],
                "asyncapi": exchange.is_some().then_some(ASYNCAPI_PATH),
                "exchange": exchange,
                "events": events,
                "openapi": OPENAPI_PATH,
            })
        });
        let own = [self.gateway(), self.billing(known, &sight.billing), self.broker(&sight)];
        let all: Vec<_> = own.into_iter().chain(services).collect();
        json!({ "services": all })
    }

    fn gateway(&self) -> Value {
        let names = self.settings.iter().map(|settings| settings.name.as_str()).chain(["broker"]);
        let about = "The only public part: it passes requests on, and queues orders.";
        let mut gateway = part(
            "gateway",
            ("ok", seconds(self.started)),
            about,
            &names.collect::<Vec<_>>(),
            &self.profiles.gateway,
        );
        gateway["version"] = env!("CARGO_PKG_VERSION").into();
        gateway["started_s"] = seconds(self.started).into();
        gateway["openapi"] = OPENAPI_PATH.into();
        gateway["asyncapi"] = ASYNCAPI_PATH.into();
        gateway
    }

    /// What billing says in its reports, and the queues that follow from the setting.
    fn billing(&self, known: &Known, state: &PartState) -> Value {
        let about = "Takes orders from the queue and stores each exactly once.";
        let BillingProgram { version, started_s, .. } = &known.billing_program;
        let queue = &self.queue;
        let mut billing = part(
            "billing",
            (state.name, state.since_s()),
            about,
            &["broker", "postgresql"],
            &self.profiles.billing,
        );
        billing["version"] = version.as_deref().into();
        billing["started_s"] = (*started_s).into();
        billing["queues"] = json!([queue, format!("{queue}.dead"), question::queue(queue)]);
        billing["exchange"] = report::exchange(queue).into();
        billing["events"] = json!([report::SCHEMA]);
        billing["asyncapi"] = ASYNCAPI_PATH.into();
        billing
    }

    /// The broker may be another program, with a version of its own.
    fn broker(&self, sight: &Sight) -> Value {
        let about = "Keeps orders until billing has stored them.";
        let state = (sight.broker.name, sight.broker.since_s());
        let mut broker = part("broker", state, about, &[], &self.profiles.broker);
        broker["version"] = sight.broker_program.as_ref().map(|program| program.version.as_str()).into();
        broker
    }
}

/// The entry of a part without an OpenAPI document of its own, which has been in this state since a time in seconds since
/// 1970; the caller adds what else is known.
fn part(
    name: &str,
    (state, since_s): (&str, u64),
    about: &str,
    depends_on: &[&str],
    profile: &ProfileSettings,
) -> Value {
    json!({
        "name": name,
        "state": state,
        "since_s": since_s,
        "started_s": null,
        "version": null,
        "about": about,
        "path": null,
        "owner": profile.owner,
        "contact": profile.contact,
        "repository": profile.repository,
        "resources": [],
        "depends_on": depends_on,
        "queues": [],
        "exchange": null,
        "events": [],
        "openapi": null,
        "asyncapi": null,
    })
}
