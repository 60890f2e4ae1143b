//! Tokens by their digests: the lines that name them, who a token belongs to, and making a new one.
//!
//! Only SHA-256 digests of tokens are kept. A token that a client sends is hashed, and the digest is looked up in a hash
//! table. A client cannot choose a digest that begins like a stored one, so the time of a lookup tells nothing about how
//! much of a wrong token is right.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest, Sha256};

/// The longest name of a client, in bytes.
pub(crate) const NAME_MAX_BYTES: usize = 64;
/// Base64 with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a client may do. Each role may do everything that the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read lists and single records.
    Read,
    /// Change records and place orders.
    Write,
    /// Delete whole collections, and see the state of the platform.
    Admin,
}

impl Role {
    /// The role's name in the lines of tokens.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Read, Self::Write, Self::Admin]
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or("the role must be read, write or admin")
    }
}

/// Whom a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    /// When the token ends to be valid, in seconds since 1970.
    expires_s: Option<u64>,
}

/// Why a token was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// No client has this token.
    Unknown,
    /// It was valid once.
    Expired,
}

/// Tokens by their digests.
#[derive(Clone, Debug, Default)]
pub struct TokenTable(HashMap<[u8; 32], Owner>);

impl TokenTable {
    /// Reads lines of the form `NAME:ROLE:DIGEST` or `NAME:ROLE:DIGEST:YYYY-MM-DD`, the last being the last day in UTC
    /// on which the token is valid. Empty lines and those that begin with `#` mean nothing. A client may have several
    /// tokens. The error says what is wrong with which line and repeats nothing of it.
    pub(crate) fn parse<'l>(lines: impl Iterator<Item = &'l str>) -> Result<Self, String> {
        let mut table = Self::default();
        for (index, line) in lines.enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                table.add(line).map_err(|problem| format!("line {}: {problem}", index + 1))?;
            }
        }
        Ok(table)
    }

    fn add(&mut self, line: &str) -> Result<(), &'static str> {
        let parts: Vec<&str> = line.split(':').collect();
        let (name, role, digest, date) = match parts[..] {
            [name, role, digest] => (name, role, digest, None),
            [name, role, digest, date] => (name, role, digest, Some(date)),
            _ => return Err("it must be NAME:ROLE:DIGEST or NAME:ROLE:DIGEST:YYYY-MM-DD"),
        };
        check_name(name)?;
        let digest = parse_digest(digest).ok_or("the digest must be 64 hexadecimal digits")?;
        let expires_s = date
            .map(|date| end_of_day_s(date).ok_or("the last part must be a date such as 2027-12-31"))
            .transpose()?;
        let owner = Owner { name: name.into(), role: role.parse()?, expires_s };
        match self.0.insert(digest, owner) {
            None => Ok(()),
            Some(_) => Err("this token is there twice"),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many tokens there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// This table and another one together.
    pub(crate) fn with(mut self, other: Self) -> Result<Self, &'static str> {
        for (digest, owner) in other.0 {
            if self.0.insert(digest, owner).is_some() {
                return Err("a token of GATEWAY_TOKENS is there, too");
            }
        }
        Ok(self)
    }

    /// The owner of the token that a client sent: the token itself or, for programs that know clients and secrets,
    /// `client:secret` in base64, the secret being the token of that client.
    pub(crate) fn owner(&self, sent: &[u8], now_s: u64) -> Result<Owner, TokenFault> {
        let owner = self.0.get(&digest(sent)).or_else(|| {
            let decoded = BASE64.decode(sent).ok()?;
            let colon = decoded.iter().position(|byte| *byte == b':')?;
            let (client, secret) = (&decoded[..colon], &decoded[colon + 1..]);
            self.0.get(&digest(secret)).filter(|owner| owner.name.as_bytes() == client)
        });
        let owner = owner.ok_or(TokenFault::Unknown)?;
        if owner.expires_s.is_some_and(|end| now_s >= end) {
            return Err(TokenFault::Expired);
        }
        Ok(owner.clone())
    }
}

/// Makes a token for the client `name`; returns the text that shows it, with the line to add. The token is stored
/// nowhere.
pub fn new_token(name: &str, role: &str) -> Result<String, String> {
    check_name(name)?;
    let role: Role = role.parse()?;
    // Two random UUIDs have 244 random bits from the operating system.
    let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let digest = hex(&digest(token.as_bytes()));
    Ok(format!(
        "The token of {name}; it is shown only now:\n  {token}\n\
         The line for the file that GATEWAY_TOKENS_FILE names, or for GATEWAY_TOKENS:\n  {name}:{}:{digest}\n\
         To make it expire, add the last day on which it is valid: {name}:{}:{digest}:YYYY-MM-DD",
        role.name(),
        role.name(),
    ))
}

/// Names appear in logs, in lines whose parts are separated by colons, and before a tilde in message ids.
fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    if (1..=NAME_MAX_BYTES).contains(&name.len()) && name.bytes().all(plain) {
        Ok(())
    } else {
        Err("the name must be 1 to 64 letters, digits and - _ . @")
    }
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// The end of a day such as `2027-12-31` in UTC, in seconds since 1970; `None` if there is no such day.
fn end_of_day_s(date: &str) -> Option<u64> {
    let mut parts = date.split('-');
    let mut number = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u64>().ok())?
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    if parts.next().is_some() || year < 1970 {
        return None;
    }
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let months = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month_index = usize::try_from(month).ok()?.checked_sub(1)?;
    if !(1..=*months.get(month_index)?).contains(&day) {
        return None;
    }
    let years: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
    let days = years + months[..month_index].iter().sum::<u64>() + day;
    Some(days * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, role: &str, token: &str) -> String {
        format!("{name}:{role}:{}", hex(&digest(token.as_bytes())))
    }

    fn table(lines: &[String]) -> Result<TokenTable, String> {
        TokenTable::parse(lines.iter().map(String::as_str))
    }

    #[test]
    fn a_token_names_its_owner_and_nothing_else_does() {
        let lines = [line("alice", "write", "secret-a"), "# bob".to_owned(), line("bob", "read", "secret-b")];
        let table = table(&lines).unwrap();
        let found = |token: &str| table.owner(token.as_bytes(), 0).map(|o| (o.name.to_string(), o.role));
        assert_eq!(found("secret-a"), Ok(("alice".to_owned(), Role::Write)));
        for other in ["", "secret-", "secret-A", "secret-aa", "alice:secret-a"] {
            assert_eq!(found(other), Err(TokenFault::Unknown), "{other}");
        }
        // base64 of bob:secret-b, then of alice:secret-b.
        assert_eq!(found("Ym9iOnNlY3JldC1i"), Ok(("bob".to_owned(), Role::Read)));
        assert_eq!(found("YWxpY2U6c2VjcmV0LWI="), Err(TokenFault::Unknown));
        for padded_or_not in ["YWxpY2U6c2VjcmV0LWE=", "YWxpY2U6c2VjcmV0LWE"] {
            assert_eq!(found(padded_or_not), Ok(("alice".to_owned(), Role::Write)));
        }
    }

    #[test]
    fn a_token_is_valid_until_the_end_of_its_last_day() {
        let table = table(&[format!("{}:1970-01-02", line("alice", "read", "t"))]).unwrap();
        assert!(table.owner(b"t", 2 * 86_400 - 1).is_ok());
        assert_eq!(table.owner(b"t", 2 * 86_400), Err(TokenFault::Expired));
        assert_eq!(end_of_day_s("2024-02-29"), Some(1_709_251_200));
        for bad in ["2023-02-29", "2024-13-01", "2024-00-01", "2024-1-1", "24-01-01", "2024-01-01-", "x"] {
            assert_eq!(end_of_day_s(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_meant_is_refused_without_being_repeated() {
        let good = line("alice", "read", "t");
        for (bad, problem) in [
            ("alice", "NAME:ROLE:DIGEST"),
            ("alice:read:beef", "64 hexadecimal"),
            (&good.replace("read", "root"), "read, write or admin"),
            (&good.replace("alice", "a b"), "the name"),
            (&format!("{good}:soon"), "a date"),
            (&good, "twice"),
        ] {
            let error = table(&[good.clone(), bad.to_owned()]).unwrap_err();
            assert!(error.starts_with("line 2: ") && error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_new_token_fits_the_line_that_is_printed_with_it() {
        let text = new_token("alice", "admin").unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let table = table(&[lines[3].to_owned()]).unwrap();
        assert_eq!(table.owner(lines[1].as_bytes(), 0).unwrap().role, Role::Admin);
        assert_ne!(new_token("alice", "admin").unwrap(), text);
        assert!(new_token("a:b", "admin").is_err() && new_token("alice", "root").is_err());
    }
}
