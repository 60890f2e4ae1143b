//! Exchanges: which queues a routing key leads to. No I/O, no locks.

use std::collections::HashMap;
use std::sync::Arc;

use crate::queues::topology::SharedQueue;

/// How an exchange compares routing keys (AMQP 0-9-1 §3.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeType {
    Direct,
    Fanout,
    Topic,
}

impl ExchangeType {
    pub(crate) const ALL: [Self; 3] = [Self::Direct, Self::Fanout, Self::Topic];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
        }
    }
}

/// A named exchange with its bindings.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) kind: ExchangeType,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    /// Binding key to queues.
    bindings: HashMap<String, Vec<Arc<SharedQueue>>>,
}

impl Exchange {
    pub(crate) fn new(kind: ExchangeType, durable: bool, auto_delete: bool, internal: bool) -> Self {
        Self { kind, durable, auto_delete, internal, bindings: HashMap::new() }
    }

    /// Adds a binding, unless it is there already.
    pub(crate) fn bind(&mut self, key: &str, queue: &Arc<SharedQueue>) {
        if !self.is_bound(key, queue.id) {
            self.bindings.entry(key.to_owned()).or_default().push(Arc::clone(queue));
        }
    }

    /// Whether `queue` is bound with exactly this key.
    pub(crate) fn is_bound(&self, key: &str, queue: u32) -> bool {
        self.bindings.get(key).is_some_and(|queues| queues.iter().any(|known| known.id == queue))
    }

    /// Removes the binding of `queue` with `key`, or all of its bindings if that is None. True if that was the last
    /// binding, and the exchange has to go with it.
    pub(crate) fn unbind(&mut self, key: Option<&str>, queue: u32) -> bool {
        let was_bound = !self.is_unbound();
        self.bindings.retain(|known, queues| {
            if key.is_none_or(|key| key == known) {
                queues.retain(|known| known.id != queue);
            }
            !queues.is_empty()
        });
        self.auto_delete && was_bound && self.is_unbound()
    }

    /// Whether it is durable and may be deleted with the last binding of `queue`.
    pub(crate) fn may_go_with(&self, queue: &SharedQueue) -> bool {
        self.durable && self.auto_delete && self.bindings().any(|(_, bound)| bound.id == queue.id)
    }

    pub(crate) fn is_unbound(&self) -> bool {
        self.bindings.is_empty()
    }

    /// All bindings.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = (&str, &Arc<SharedQueue>)> {
        self.bindings.iter().flat_map(|(key, queues)| queues.iter().map(move |queue| (key.as_str(), queue)))
    }

    /// The queues that a message with this routing key goes to, each once.
    pub(crate) fn route(&self, routing_key: &str) -> Vec<Arc<SharedQueue>> {
        let mut found: Vec<Arc<SharedQueue>> = match self.kind {
            ExchangeType::Direct => self.bindings.get(routing_key).into_iter().flatten().cloned().collect(),
            ExchangeType::Fanout => self.bindings.values().flatten().cloned().collect(),
            ExchangeType::Topic => self
                .bindings
                .iter()
                .filter(|(pattern, _)| topic_matches(pattern, routing_key))
                .flat_map(|(_, queues)| queues.iter().cloned())
                .collect(),
        };
        found.sort_unstable_by_key(|queue| queue.id);
        found.dedup_by_key(|queue| queue.id);
        found
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
