//! The settings for who may do what, and how much of it.

use std::path::PathBuf;

use foundation::Environment;

use crate::error::Error;
use crate::forwarded::Network;
use crate::token_table::TokenTable;

/// Who may do what.
#[derive(Clone, Debug)]
pub struct AccessSettings {
    /// The tokens of clients. Without any, everybody may do everything.
    pub tokens: TokenSettings,
    /// `GATEWAY_PUBLIC_READS` (1): whether records can be read without a token.
    pub public_reads: bool,
    /// `GATEWAY_ALLOWED_HOSTS`: the host names under which the gateway serves. By default all with tokens, else those of
    /// the machine and all addresses.
    pub allowed_hosts: Option<Vec<String>>,
    /// `GATEWAY_ACCESS_LOG` (0): whether there is an access log.
    pub access_log: bool,
    /// `GATEWAY_TRUSTED_PROXIES` (none): the networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are
    /// believed.
    pub trusted_proxies: Vec<Network>,
    /// `GATEWAY_CORS_ORIGINS` (none): the origins whose pages may call.
    pub cors_origins: Vec<String>,
}

/// How many requests one client may make.
#[derive(Clone, Copy, Debug)]
pub struct RateSettings {
    /// `GATEWAY_RATE_PER_S` (0): requests of one client in a second, in the long run; 0 means no limit.
    pub per_s: u64,
    /// `GATEWAY_RATE_BURST` (twice `GATEWAY_RATE_PER_S`): how many of them may come at once.
    pub burst: u64,
    /// `GATEWAY_WRITE_RATE_PER_S` (0): the same as `GATEWAY_RATE_PER_S` for changes and orders, in addition.
    pub writes_per_s: u64,
}

/// The tokens of clients.
#[derive(Clone, Debug, Default)]
pub struct TokenSettings {
    /// `GATEWAY_TOKENS`: lines as in the file, separated by commas.
    pub fixed: TokenTable,
    /// `GATEWAY_TOKENS_FILE`: the file of further ones, which is read again when it changes.
    pub file: Option<PathBuf>,
}

impl AccessSettings {
    pub(super) fn read(environment: &Environment) -> Result<Self, Error> {
        Ok(Self {
            tokens: TokenSettings::read(environment)?,
            public_reads: switch(environment, "GATEWAY_PUBLIC_READS", true)?,
            allowed_hosts: Some(members(environment, "GATEWAY_ALLOWED_HOSTS"))
                .filter(|hosts| !hosts.is_empty()),
            access_log: switch(environment, "GATEWAY_ACCESS_LOG", false)?,
            trusted_proxies: networks(environment)?,
            cors_origins: origins(environment)?,
        })
    }
}

impl TokenSettings {
    fn read(environment: &Environment) -> Result<Self, Error> {
        let name = "GATEWAY_TOKENS";
        let fixed = TokenTable::parse(environment.text(name, "").split(','))
            .map_err(|problem| foundation::Error::setting(name, problem))?;
        let file = environment.text("GATEWAY_TOKENS_FILE", "");
        Ok(Self { fixed, file: (!file.is_empty()).then(|| file.into()) })
    }
}

/// The members of a list that may be empty.
fn members(environment: &Environment, name: &str) -> Vec<String> {
    let text = environment.text(name, "");
    text.split(',').map(str::trim).filter(|member| !member.is_empty()).map(str::to_owned).collect()
}

/// Origins (RFC 6454 §6.2) exactly as browsers send them, since they are compared as text.
fn origins(environment: &Environment) -> Result<Vec<String>, foundation::Error> {
    let name = "GATEWAY_CORS_ORIGINS";
    let origins = members(environment, name);
    let is_origin = |text: &str| {
        let host = text.strip_prefix("https://").or(text.strip_prefix("http://"));
        host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@']))
    };
    match origins.iter().find(|origin| *origin != "*" && !is_origin(origin)) {
        None => Ok(origins),
        Some(_) => Err(foundation::Error::setting(
            name,
            "every member must be an origin such as https://shop.example, without a path, or *",
        )),
    }
}

fn networks(environment: &Environment) -> Result<Vec<Network>, foundation::Error> {
    let name = "GATEWAY_TRUSTED_PROXIES";
    let networks = members(environment, name);
    let parsed: Result<Vec<Network>, &str> = networks.iter().map(|network| network.parse()).collect();
    parsed.map_err(|problem| foundation::Error::setting(name, problem))
}

impl RateSettings {
    pub(super) fn read(environment: &Environment) -> Result<Self, Error> {
        let (most, any) = (1_000_000, 0..=1_000_000);
        let per_s = environment.number("GATEWAY_RATE_PER_S", 0, any.clone())?;
        let burst = environment.number("GATEWAY_RATE_BURST", (2 * per_s).clamp(1, most), 1..=most)?;
        let writes_per_s = environment.number("GATEWAY_WRITE_RATE_PER_S", 0, any)?;
        Ok(Self { per_s, burst, writes_per_s })
    }

    /// How many changes may come at once: as many seconds' worth as of all requests.
    pub(crate) fn writes_burst(&self) -> u64 {
        match (self.burst * self.writes_per_s).checked_div(self.per_s) {
            Some(burst) => burst.max(1),
            None => 2 * self.writes_per_s,
        }
    }
}

/// A setting that is 0 or 1.
fn switch(environment: &Environment, name: &str, default: bool) -> Result<bool, foundation::Error> {
    Ok(environment.number(name, u64::from(default), 0..=1)? == 1)
}
