//! The catalogue: what each part of the platform is, who is responsible for it, and how it is. Services describe
//! themselves in the `info` of their OpenAPI documents; the gateway gathers these, and remembers the last ones of those
//! that are down.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use edge::{Refusal, Request, Response};
use serde_json::{Value, json};

use crate::assets;
use crate::openapi;
use crate::settings::{QueueSettings, ServiceSettings};
use crate::upstream::{self, UpstreamService};
use crate::watch::Watch;

/// How long an answer is reused, so that many readers cost the services no more than one.
const FRESH: Duration = Duration::from_secs(2);
/// The largest OpenAPI document of a service, in bytes.
const DOCUMENT_MAX_BYTES: u64 = 1 << 20;
/// The services whose documents are part of the gateway's own: inventory, the first one.
const DESCRIBED_HERE: usize = 1;

/// Answers /api/services and /openapi.json.
pub(crate) struct Catalogue {
    /// Inventory, then the further services; the settings are in the same order.
    services: Box<[&'static UpstreamService]>,
    settings: Box<[ServiceSettings]>,
    watch: Arc<Watch>,
    /// The queue of orders.
    queue: String,
    started: SystemTime,
    known: Mutex<Known>,
}

/// What was found out last.
struct Known {
    looked: Option<Instant>,
    services: Box<[Entry]>,
    /// /openapi.json.
    merged: Arc<[u8]>,
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
        queue: &QueueSettings,
    ) -> Self {
        let entry = Entry { document: None, is_current: false };
        let known =
            Known { looked: None, services: vec![entry; services.len()].into(), merged: Arc::default() };
        Self {
            services: services.into(),
            settings: settings.into(),
            watch,
            queue: queue.queue.clone(),
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
        let merged = self.with_known(|known| known.merged.clone())?;
        response.send_json(200, &[("cache-control", "no-cache")], &merged)
    }

    /// GET /api/services.
    pub(crate) fn serve(&self, response: &mut Response<'_>) -> Result<(), Refusal> {
        let answer = self.with_known(|known| self.describe(known).to_string())?;
        response.send_json(200, &[("cache-control", "no-store")], answer.as_bytes())
    }

    /// Gives `use_it` what is known, after looking again if that is not fresh. Concurrent callers wait for one look.
    fn with_known<T>(&self, use_it: impl FnOnce(&Known) -> T) -> Result<T, Refusal> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.is_none_or(|looked| looked.elapsed() >= FRESH) {
            self.look(&mut known)?;
            known.looked = Some(Instant::now());
        }
        Ok(use_it(&known))
    }

    fn look(&self, known: &mut Known) -> Result<(), Refusal> {
        let documents = upstream::documents(&self.services, b"/openapi.json", DOCUMENT_MAX_BYTES);
        for (entry, document) in known.services.iter_mut().zip(documents) {
            let document = document.and_then(|json| serde_json::from_slice(&json).ok());
            entry.is_current = document.is_some();
            entry.document = document.or(entry.document.take());
        }
        let mut merged =
            assets::openapi().map_err(|_| Refusal::Internal("the OpenAPI document is damaged"))?;
        for (entry, settings) in known.services.iter().zip(&self.settings).skip(DESCRIBED_HERE) {
            openapi::merge(&mut merged, settings, entry.document.as_ref(), entry.is_current);
        }
        known.merged = merged.to_string().into_bytes().into();
        Ok(())
    }

    fn describe(&self, known: &Known) -> Value {
        let sight = self.watch.glance();
        let states = known.services.iter().zip(&sight.services);
        let services = states.zip(&self.settings).map(|((entry, state), settings)| {
            let info = entry.document.as_ref().map_or(&Value::Null, |document| &document["info"]);
            json!({
                "name": settings.name,
                "state": state.name,
                "since_s": state.since_s(),
                "version": info["version"],
                "about": info["description"].as_str().unwrap_or_default(),
                "path": settings.prefix,
                "owner": info["x-owner"],
                "contact": info["x-contact"],
                "repository": info["x-repository"],
                "resources": info["x-resources"].as_array().cloned().unwrap_or_default(),
                "depends_on": info["x-depends-on"].as_array().cloned().unwrap_or_default(),
                "queues": [],
            })
        });
        let names = self.settings.iter().map(|settings| settings.name.as_str()).chain(["broker"]);
        let version = env!("CARGO_PKG_VERSION");
        let queues = [self.queue.clone(), format!("{}.dead", self.queue)];
        let own = [
            part(
                "gateway",
                ("ok", seconds(self.started)),
                version,
                "The only public part: it passes requests on, and queues orders.",
                &names.collect::<Vec<_>>(),
                &[],
            ),
            part(
                "billing",
                (sight.billing.name, sight.billing.since_s()),
                &sight.reported.version,
                "Takes orders from the queue and stores each exactly once.",
                &["broker", "postgresql"],
                &queues,
            ),
            part(
                "broker",
                (sight.broker.name, sight.broker.since_s()),
                "",
                "Keeps orders until billing has stored them.",
                &[],
                &[],
            ),
        ];
        let all: Vec<_> = own.into_iter().chain(services).collect();
        json!({ "services": all })
    }
}

/// The entry of a part that does not describe itself; `state` has been so since a time in seconds since 1970. The broker may
/// be another program, with a version of its own.
fn part(
    name: &str,
    (state, since_s): (&str, u64),
    version: &str,
    about: &str,
    depends_on: &[&str],
    queues: &[String],
) -> Value {
    json!({
        "name": name,
        "state": state,
        "since_s": since_s,
        "version": if version.is_empty() { Value::Null } else { version.into() },
        "about": about,
        "path": null,
        "owner": null,
        "contact": null,
        "repository": null,
        "resources": [],
        "depends_on": depends_on,
        "queues": queues,
    })
}
