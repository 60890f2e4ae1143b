//! Exchanges: which bindings a message takes. No I/O, no locks.

use std::collections::HashMap;
use std::sync::Arc;

use crate::codec::raw_table::RawTable;
use crate::queues::headers;
use crate::queues::shared_queue::SharedQueue;

/// How an exchange decides which bindings a message takes (AMQP 0-9-1 §3.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeType {
    Direct,
    Fanout,
    Topic,
    Headers,
}

impl ExchangeType {
    pub(crate) const ALL: [Self; 4] = [Self::Direct, Self::Fanout, Self::Topic, Self::Headers];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

/// Where a binding leads.
#[derive(Clone)]
pub(crate) enum Destination {
    Queue(Arc<SharedQueue>),
    /// The exchange of this name.
    Exchange(Arc<str>),
}

impl Destination {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Queue(one), Self::Queue(other)) => one.id == other.id,
            (Self::Exchange(one), Self::Exchange(other)) => one == other,
            _ => false,
        }
    }
}

/// A binding of an exchange, but for its key. Key, destination and arguments together are its identity.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) destination: Destination,
    /// The fields of a table, sorted by name.
    pub(crate) arguments: Arc<[u8]>,
}

impl Target {
    pub(crate) fn arguments(&self) -> RawTable<'_> {
        RawTable::new(&self.arguments).unwrap_or_default()
    }

    /// About the memory that a binding to it takes.
    pub(crate) fn bytes(&self, key: &str) -> usize {
        200 + key.len() + self.arguments.len()
    }

    fn is_same(&self, other: &Self) -> bool {
        self.destination.is_same(&other.destination) && self.arguments == other.arguments
    }
}

/// A named exchange with its bindings.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) kind: ExchangeType,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    /// The exchange that gets what no binding takes.
    pub(crate) alternate: Option<String>,
    /// Binding key to targets.
    bindings: HashMap<String, Vec<Target>>,
}

impl Exchange {
    pub(crate) fn new(kind: ExchangeType, durable: bool, auto_delete: bool, internal: bool) -> Self {
        Self { kind, durable, auto_delete, internal, alternate: None, bindings: HashMap::new() }
    }

    pub(crate) fn with_alternate(self, alternate: Option<String>) -> Self {
        Self { alternate, ..self }
    }

    /// Adds a binding, unless it is there already.
    pub(crate) fn bind(&mut self, key: &str, target: Target) {
        if !self.is_bound(key, &target) {
            self.bindings.entry(key.to_owned()).or_default().push(target);
        }
    }

    /// Whether there is exactly this binding.
    pub(crate) fn is_bound(&self, key: &str, target: &Target) -> bool {
        self.bindings.get(key).is_some_and(|targets| targets.iter().any(|known| known.is_same(target)))
    }

    /// Removes a binding. True if that was the last one, and the exchange has to go with it.
    pub(crate) fn unbind(&mut self, key: &str, target: &Target) -> bool {
        self.remove_bindings(|known_key, known| known_key == key && known.is_same(target))
    }

    /// Removes all bindings to `destination`. True if the exchange has to go with them.
    pub(crate) fn unbind_all(&mut self, destination: &Destination) -> bool {
        self.remove_bindings(|_, known| known.destination.is_same(destination))
    }

    fn remove_bindings(&mut self, remove: impl Fn(&str, &Target) -> bool) -> bool {
        let was_bound = !self.is_unbound();
        self.bindings.retain(|key, targets| {
            targets.retain(|target| !remove(key, target));
            !targets.is_empty()
        });
        self.auto_delete && was_bound && self.is_unbound()
    }

    pub(crate) fn is_unbound(&self) -> bool {
        self.bindings.is_empty()
    }

    /// All bindings, with their keys.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = (&str, &Target)> {
        self.bindings
            .iter()
            .flat_map(|(key, targets)| targets.iter().map(move |target| (key.as_str(), target)))
    }

    /// Whether a binding leads to `destination`.
    pub(crate) fn leads_to(&self, destination: &Destination) -> bool {
        self.bindings().any(|(_, target)| target.destination.is_same(destination))
    }

    /// The destinations of the bindings that a message takes; one may be named more than once.
    pub(crate) fn destinations<'a>(
        &'a self,
        routing_key: &'a str,
        headers: RawTable<'a>,
    ) -> impl Iterator<Item = &'a Destination> {
        let kind = self.kind;
        // The keys of a direct exchange are looked up, those of all others are gone through.
        let (one, all) = match kind {
            ExchangeType::Direct => (self.bindings.get_key_value(routing_key), None),
            _ => (None, Some(self.bindings.iter())),
        };
        let taken = move |key: &str, target: &Target| match kind {
            ExchangeType::Direct | ExchangeType::Fanout => true,
            ExchangeType::Topic => topic_matches(key, routing_key),
            ExchangeType::Headers => headers::matches(target.arguments(), headers),
        };
        let bindings = one.into_iter().chain(all.into_iter().flatten());
        let targets = bindings.flat_map(|(key, targets)| targets.iter().map(move |target| (key, target)));
        targets.filter(move |(key, target)| taken(key, target)).map(|(_, target)| &target.destination)
    }
}

/// Whether a topic pattern matches a routing key: words are separated by dots, `*` is one word, `#` any number.
pub(crate) fn topic_matches(pattern: &str, routing_key: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let words: Vec<&str> = routing_key.split('.').collect();
    // The classic two-pointer match for wildcards: on a mismatch, let the last `#` take one more word. It needs no
    // recursion, so no pattern can make it slow.
    let (mut p, mut w) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while w < words.len() {
        match pattern.get(p) {
            Some(&"#") => {
                retry = Some((p, w));
                p += 1;
            }
            Some(&word) if word == "*" || word == words[w] => {
                p += 1;
                w += 1;
            }
            _ => {
                let Some((hash, taken)) = retry else { return false };
                retry = Some((hash, taken + 1));
                p = hash + 1;
                w = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|rest| *rest == "#")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn topics_match_as_the_specification_says() {
        for (pattern, key, matches) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("*.b", "a.b", true),
            ("*", "a.b", false),
            ("*", "", true),
            ("#", "", true),
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("a.#.z", "a.z", true),
            ("a.#.z", "a.b.z.z", true),
            ("a.#.z", "a.b.c", false),
            ("#.b.#", "a.b.c", true),
            ("a.*.#", "a", false),
            ("a.*.#", "a.b", true),
            ("#.#", "a", true),
            ("a..b", "a..b", true),
            ("a.*.b", "a..b", true),
        ] {
            assert_eq!(topic_matches(pattern, key), matches, "{pattern} {key}");
        }
    }

    /// The definition, word by word.
    fn reference(pattern: &[&str], words: &[&str]) -> bool {
        match (pattern.split_first(), words.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), None) => reference(rest, words),
            (Some((&"#", rest)), Some((_, left))) => reference(rest, words) || reference(pattern, left),
            (Some((first, rest)), Some((word, left))) => {
                (*first == "*" || first == word) && reference(rest, left)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn topics_match_like_the_definition(
            pattern in proptest::collection::vec("[ab*#]", 1..6),
            words in proptest::collection::vec("[ab]", 1..6),
        ) {
            let (pattern, key) = (pattern.join("."), words.join("."));
            let expected = reference(&pattern.split('.').collect::<Vec<_>>(), &key.split('.').collect::<Vec<_>>());
            prop_assert_eq!(topic_matches(&pattern, &key), expected, "{} {}", pattern, key);
        }
    }
}
