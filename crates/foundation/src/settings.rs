//! Typed access to settings: the process environment, completed by `.env.local` and `.env`.
//!
//! Each service's `settings.rs` reads its own settings through this, and passes it to the crates that have settings.
//! Nothing else reads the environment. Errors name the variable and never repeat its value, which may be a password.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::{Error, env_file};

/// A snapshot of the settings, taken once at start.
pub struct Environment {
    values: HashMap<String, String>,
    /// The names that were asked for, set or not: the settings that exist.
    known: RefCell<BTreeSet<String>>,
}

impl Environment {
    /// Reads the process environment, which wins, then `.env.local`, then `.env`. The files are those of the working
    /// directory or of the nearest folder above that has `.env`; a missing file is fine, a malformed one is an error.
    pub fn load() -> Result<Self, Error> {
        let mut values = HashMap::new();
        if let Some(path) = env_file::find()? {
            values.extend(env_file::read(&path)?);
            let local = path.with_file_name(".env.local");
            if local.try_exists().unwrap_or(true) {
                values.extend(env_file::read(&local)?);
            }
        }
        for (name, value) in std::env::vars_os() {
            // All settings are UTF-8. One that is not is skipped here, and the getter reports it as missing.
            if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) {
                values.insert(name, value);
            }
        }
        Ok(Self { values, known: RefCell::default() })
    }

    /// Settings given directly, for tests.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        let values = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { values, known: RefCell::default() }
    }

    /// Warns of each variable that looks like a setting but is none. Call it once all settings have been read. A
    /// variable looks like a setting if its name begins with one of `prefixes` or is one typing error away from a known
    /// name. `elsewhere` lists settings with such a prefix that other programs read.
    pub fn without_effect(&self, prefixes: &[&str], elsewhere: &[&str]) -> Vec<String> {
        let known = self.known.borrow();
        let mut names: Vec<&String> = self.values.keys().collect();
        names.sort();
        names
            .into_iter()
            .filter(|name| !known.contains(*name) && !elsewhere.contains(&name.as_str()))
            .filter_map(|name| match known.iter().find(|other| is_one_slip(name, other)) {
                Some(meant) => Some(format!("there is no setting {name}; is {meant} meant?")),
                None if prefixes.iter().any(|prefix| name.starts_with(prefix)) => {
                    Some(format!("there is no setting {name}"))
                }
                None => None,
            })
            .collect()
    }

    /// The value of `name`, unless it is unset or empty.
    fn get(&self, name: &str) -> Option<&str> {
        self.known.borrow_mut().insert(name.to_owned());
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A text that has no default.
    pub fn required(&self, name: &str) -> Result<String, Error> {
        self.get(name).map(str::to_owned).ok_or_else(|| Error::setting(name, "is not set"))
    }

    /// A text, or `default` when it is unset or empty.
    pub fn text(&self, name: &str, default: &str) -> String {
        self.get(name).unwrap_or(default).to_owned()
    }

    /// A comma-separated list without empty members; `default` when unset.
    pub fn list(&self, name: &str, default: &str) -> Result<Vec<String>, Error> {
        let members: Vec<String> = self
            .get(name)
            .unwrap_or(default)
            .split(',')
            .map(|member| member.trim().to_owned())
            .filter(|member| !member.is_empty())
            .collect();
        if members.is_empty() { Err(Error::setting(name, "has no member")) } else { Ok(members) }
    }

    /// Anything that parses from text, or `default` when it is unset.
    pub fn parsed<T>(&self, name: &str, default: T) -> Result<T, Error>
    where
        T: FromStr,
        T::Err: Display,
    {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text.trim().parse().map_err(|e: T::Err| Error::setting(name, e.to_string())),
        }
    }

    /// A whole number within `range`, both ends included.
    pub fn number(&self, name: &str, default: u64, range: RangeInclusive<u64>) -> Result<u64, Error> {
        let value = self.parsed(name, default)?;
        if range.contains(&value) {
            Ok(value)
        } else {
            Err(Error::setting(name, format!("must be from {} to {}", range.start(), range.end())))
        }
    }

    /// A count or a size in bytes, from 1 up to `max`.
    pub fn size(&self, name: &str, default: usize, max: usize) -> Result<usize, Error> {
        let value = self.number(name, default as u64, 1..=max as u64)?;
        usize::try_from(value).map_err(|e| Error::setting(name, e.to_string()))
    }

    /// A TCP port; 0 lets the operating system choose one, which tests use.
    pub fn port(&self, name: &str, default: u16) -> Result<u16, Error> {
        self.parsed(name, default)
    }

    /// A duration in milliseconds, from 1 ms to one day. The name of such a variable ends in `_MS`.
    pub fn millis(&self, name: &str, default_ms: u64) -> Result<Duration, Error> {
        debug_assert!(name.ends_with("_MS"), "a duration's unit belongs into its name");
        self.number(name, default_ms, 1..=86_400_000).map(Duration::from_millis)
    }
}

/// Whether two names differ by one typing error: a wrong, missing or extra letter, or two swapped neighbours.
fn is_one_slip(name: &str, other: &str) -> bool {
    let start = name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let (name, other) = (&name.as_bytes()[start..], &other.as_bytes()[start..]);
    let end = name.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    match (&name[..name.len() - end], &other[..other.len() - end]) {
        ([_] | [], [_] | []) => true,
        ([a, b], [c, d]) => (a, b) == (d, c),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unset_or_empty_variable_takes_its_default() {
        let environment = Environment::from_pairs([("EMPTY", "")]);
        assert_eq!(environment.port("EMPTY", 8080).unwrap(), 8080);
        assert_eq!(environment.text("ABSENT", "info"), "info");
        assert_eq!(environment.millis("WAIT_MS", 250).unwrap(), Duration::from_millis(250));
    }

    #[test]
    fn a_missing_or_malformed_variable_names_itself_and_hides_its_value() {
        let environment = Environment::from_pairs([("GATEWAY_PORT", "s3cret"), ("WORKERS", "0")]);
        let error = environment.port("GATEWAY_PORT", 1).unwrap_err().to_string();
        assert!(error.contains("GATEWAY_PORT") && !error.contains("s3cret"), "{error}");
        let error = environment.size("WORKERS", 8, 64).unwrap_err().to_string();
        assert_eq!(error, "setting WORKERS: must be from 1 to 64");
        let error = environment.required("PASSWORD").unwrap_err().to_string();
        assert_eq!(error, "setting PASSWORD: is not set");
    }

    #[test]
    fn a_list_is_split_at_commas_and_may_not_be_empty() {
        let environment = Environment::from_pairs([("HOSTS", "a, b,,c "), ("NONE", " , ")]);
        assert_eq!(environment.list("HOSTS", "x").unwrap(), ["a", "b", "c"]);
        assert!(environment.list("NONE", "x").is_err());
    }

    #[test]
    fn a_variable_that_looks_like_a_setting_is_told() {
        let environment = Environment::from_pairs([
            ("GATEWAY_PORT", "1"),
            ("GATEWAY_PROT", "2"),
            ("GATEWAY_SPEED", "s3cret"),
            ("GATEWAY_ELSEWHERE", "4"),
            ("LOG_LEVL", "info"),
            ("LOG_FOLDER", "/"),
            ("RABBITMQ_NODENAME", "rabbit"),
        ]);
        environment.port("GATEWAY_PORT", 0).unwrap();
        environment.text("LOG_LEVEL", "info");
        environment.text("RABBITMQ_USER", "");
        assert_eq!(
            environment.without_effect(&["GATEWAY_"], &["GATEWAY_ELSEWHERE"]),
            [
                "there is no setting GATEWAY_PROT; is GATEWAY_PORT meant?",
                "there is no setting GATEWAY_SPEED",
                "there is no setting LOG_LEVL; is LOG_LEVEL meant?",
            ]
        );
    }

    #[test]
    fn one_slip_is_a_letter_or_two_swapped() {
        for (name, other) in
            [("ABC", "ABD"), ("ABC", "AB"), ("BC", "ABC"), ("ABC", "AXBC"), ("ABC", "BAC"), ("AAB", "AB")]
        {
            assert!(is_one_slip(name, other) && is_one_slip(other, name), "{name} {other}");
        }
        for (name, other) in
            [("ABC", "CBA"), ("ABC", "A"), ("ABCD", "BADC"), ("HOME", "HOST"), ("ABCD", "ACDB")]
        {
            assert!(!is_one_slip(name, other), "{name} {other}");
        }
    }
}
