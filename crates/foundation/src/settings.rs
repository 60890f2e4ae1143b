//! Typed access to settings: the process environment, completed by the nearest `.env` file.
//!
//! Only a service's own `settings.rs` uses this; nothing else reads the environment. Errors name the variable
//! and never repeat its value, which may be a password.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::Error;

/// A snapshot of the settings, taken once at start.
pub struct Environment {
    values: HashMap<String, String>,
}

impl Environment {
    /// Reads the process environment and the `.env` file of the working directory or the nearest parent that has
    /// one. The process environment wins; a missing file is fine, a malformed one is an error.
    pub fn load() -> Result<Self, Error> {
        let mut values = HashMap::new();
        match dotenv::dotenv_iter() {
            Ok(entries) => {
                for entry in entries {
                    let (name, value) = entry.map_err(|e| describe_file_error(&e))?;
                    values.insert(name, value);
                }
            }
            Err(e) if e.not_found() => {}
            Err(e) => return Err(describe_file_error(&e)),
        }
        for (name, value) in std::env::vars_os() {
            // A variable that is not UTF-8 cannot be one of ours unless somebody mistyped it, and then the
            // getter reports it as missing by name.
            if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) {
                values.insert(name, value);
            }
        }
        Ok(Self { values })
    }

    /// Settings given directly, for tests.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let values = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { values }
    }

    /// The value of `name`, unless it is unset or empty.
    fn get(&self, name: &str) -> Option<&str> {
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

/// Says where `.env` is malformed. The parser's own message would quote the line, and with it a password.
fn describe_file_error(error: &dotenv::Error) -> Error {
    match error {
        dotenv::Error::LineParse(line, _) => {
            let name = line.split('=').next().unwrap_or_default().trim();
            Error::setting(name, "this line of .env cannot be read; put the value in single quotes")
        }
        dotenv::Error::Io(e) => Error::setting(".env", e.to_string()),
        _ => Error::setting(".env", "the file cannot be read"),
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
}
