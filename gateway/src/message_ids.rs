//! The message ids of orders. A client names its order with a key, or the gateway makes a random one. With tokens, the
//! client's name precedes the key, so that nobody uses the key of somebody else, by accident or on purpose.

use edge::Client;

use crate::token_table::NAME_MAX_BYTES;

/// The longest key, in bytes.
const KEY_MAX_BYTES: usize = 128;
/// Separates name and key. No name has it, see `token_table.rs`.
const SEPARATOR: char = '~';
/// The longest message id, in bytes: name, separator and key.
const ID_MAX_BYTES: usize = NAME_MAX_BYTES + 1 + KEY_MAX_BYTES;
// A message id is a short string (AMQP 0-9-1 §4.2.5.3).
const _: () = assert!(ID_MAX_BYTES <= 255);

/// The message id of the order that `client` places under `key`: 1 to 128 visible ASCII characters, or the whole message
/// id that the client was told; `None` if it is neither.
pub(crate) fn of_key(client: &Client, key: &[u8]) -> Option<String> {
    let key = visible(key)?;
    let key = own_prefix(client)
        .and_then(|own| key.strip_prefix(&own))
        .filter(|key| !key.is_empty())
        .unwrap_or(key);
    (key.len() <= KEY_MAX_BYTES).then(|| with_name(client, key))
}

/// A random message id, for an order without a key.
pub(crate) fn random(client: &Client) -> String {
    with_name(client, &uuid::Uuid::new_v4().to_string())
}

/// The message ids that `client` may mean by `asked`: that of its own key and, if it `may_see_all`, the text as it is.
/// Empty if `asked` can be neither.
pub(crate) fn asked_for(client: &Client, may_see_all: bool, asked: &[u8]) -> Vec<String> {
    let as_it_is = visible(asked).filter(|id| may_see_all && id.len() <= ID_MAX_BYTES).map(str::to_owned);
    let mut ids: Vec<_> = of_key(client, asked).into_iter().chain(as_it_is).collect();
    ids.dedup();
    ids
}

/// Whether a message id can be the last segment of a path without percent-encoding (RFC 3986 §3.3).
pub(crate) fn fits_path(id: &str) -> bool {
    (1..=ID_MAX_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte))
}

/// The text, if all of it is visible ASCII characters.
fn visible(text: &[u8]) -> Option<&str> {
    let is_visible = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
    str::from_utf8(text).ok().filter(|_| is_visible)
}

/// What precedes the keys of a client that has a name.
fn own_prefix(client: &Client) -> Option<String> {
    match client {
        Client::Named(name) => Some(format!("{name}{SEPARATOR}")),
        Client::Address(_) => None,
    }
}

fn with_name(client: &Client, key: &str) -> String {
    own_prefix(client).unwrap_or_default() + key
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const NOBODY: Client = Client::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

    fn named(name: &str) -> Client {
        Client::Named(name.into())
    }

    #[test]
    fn a_key_is_short_and_visible() {
        let longest = [b'a'; KEY_MAX_BYTES];
        for client in [NOBODY, named("alice")] {
            for key in [&b"order-1!"[..], &longest] {
                assert!(of_key(&client, key).unwrap().as_bytes().ends_with(key));
            }
            for bad in [&b""[..], b"a b", b"\xc3\xa9", b"a\tb", &[b'a'; KEY_MAX_BYTES + 1]] {
                assert_eq!(of_key(&client, bad), None, "{bad:?}");
            }
        }
    }

    #[test]
    fn a_key_belongs_to_the_client_with_this_name() {
        let id = |client: &Client, key: &str| of_key(client, key.as_bytes()).unwrap();
        let (alice, bob) = (named("alice"), named("bob"));
        assert_eq!(
            (id(&alice, "k"), id(&bob, "k"), id(&NOBODY, "k")),
            ("alice~k".into(), "bob~k".into(), "k".into())
        );
        // The whole id is as good as the key, however long that is.
        assert_eq!((id(&alice, "alice~k"), id(&bob, "alice~k")), ("alice~k".into(), "bob~alice~k".into()));
        let longest = id(&alice, &"k".repeat(KEY_MAX_BYTES));
        assert_eq!(id(&alice, &longest), longest);
        assert_eq!(id(&alice, "alice~"), "alice~alice~");
        let random = random(&alice);
        assert!(random.starts_with("alice~") && id(&alice, &random) == random, "{random}");
    }

    #[test]
    fn who_asks_means_an_own_order_first_and_sees_others_only_if_allowed() {
        let asked = |client: &Client, all: bool, id: &str| asked_for(client, all, id.as_bytes());
        let (alice, longest) = (named("alice"), "i".repeat(ID_MAX_BYTES));
        assert_eq!(asked(&alice, false, "k"), ["alice~k"]);
        assert_eq!(asked(&alice, false, "bob~k"), ["alice~bob~k"]);
        assert_eq!(asked(&alice, true, "bob~k"), ["alice~bob~k", "bob~k"]);
        assert_eq!(asked(&alice, true, "alice~k"), ["alice~k"]);
        assert_eq!(asked(&NOBODY, true, "k"), ["k"]);
        assert_eq!(asked(&alice, true, &longest), [longest.as_str()]);
        for bad in ["", "a b", &(longest.clone() + "i")] {
            assert!(asked(&alice, true, bad).is_empty(), "{bad}");
        }
        assert!(asked(&alice, false, &longest).is_empty());
    }

    #[test]
    fn an_id_of_a_path_needs_no_encoding() {
        for id in ["a", "2f1c7f0e-0c9b-4f3b-9a53-5f7a4c0d8e11", "a@b.c~d:e+f", &"x".repeat(ID_MAX_BYTES)] {
            assert!(fits_path(id), "{id}");
        }
        for other in ["", "a/b", "a b", "é", "a%b", "a?b", "a#b", &"x".repeat(ID_MAX_BYTES + 1)] {
            assert!(!fits_path(other), "{other}");
        }
    }
}
