//! The rules for a batch of messages. AMQP and SQL do not belong here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use order::Order;
use order::SCHEMA;
use sha2::{Digest, Sha256};

use crate::error::Error;

/// A message: only what the rules need.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// The sender's id for it, if any.
    pub id: Option<&'a str>,
    /// The format that its sender names, if any.
    pub schema: Option<&'a str>,
    /// The payload.
    pub body: &'a [u8],
}

/// Identifies a body: the first half of its SHA-256, to keep the inbox small.
pub(crate) type BodyDigest = [u8; 16];

pub(crate) fn digest(body: &[u8]) -> BodyDigest {
    let mut digest = BodyDigest::default();
    digest.copy_from_slice(&Sha256::digest(body)[..16]);
    digest
}

/// The reason for dead-lettering a message whose id was used for another body.
const CONFLICT: &str = "the message_id was used before, for another order";

/// An order and the message it came in.
#[derive(Clone, Debug)]
pub(crate) struct IncomingOrder {
    /// Identifies repetitions. Without it, every delivery is a separate order.
    pub message_id: Option<String>,
    /// The digest of the message's body.
    pub digest: BodyDigest,
    /// The order.
    pub order: Order,
}

/// Where orders are stored.
pub(crate) trait OrderStore {
    /// Stores the orders whose messages have not been processed before, all or none. No message id may occur twice in
    /// the batch.
    fn store(&mut self, batch: &[IncomingOrder]) -> Result<Stored, Error>;
}

/// The result of storing a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// How many orders were newly stored. The messages of the others had been processed before.
    pub new: u64,
    /// The positions in the batch of messages whose id had been used for another body.
    pub conflicts: Vec<usize>,
}

/// The outcome of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BatchOutcome {
    /// How many orders were newly stored.
    pub stored: u64,
    /// Messages that can never succeed: their position in the batch, and why.
    pub dead: Vec<(usize, String)>,
}

/// Stores the orders of a batch. After an error nothing is settled, and the batch has to be processed again.
pub(crate) fn process(messages: &[Message], orders: &mut impl OrderStore) -> Result<BatchOutcome, Error> {
    let mut outcome = BatchOutcome::default();
    let mut incoming = Vec::with_capacity(messages.len());
    let mut seen = HashMap::new();
    for (position, message) in messages.iter().enumerate() {
        let order = match read(message) {
            Ok(order) => order,
            Err(reason) => {
                outcome.dead.push((position, reason));
                continue;
            }
        };
        let digest = digest(message.body);
        match message.id.map(|id| seen.entry(id)) {
            Some(Entry::Occupied(first)) if *first.get() != digest => {
                outcome.dead.push((position, CONFLICT.to_owned()));
                continue;
            }
            Some(Entry::Occupied(_)) => continue,
            Some(Entry::Vacant(entry)) => {
                entry.insert(digest);
            }
            None => {}
        }
        let message_id = message.id.map(str::to_owned);
        incoming.push((position, IncomingOrder { message_id, digest, order }));
    }
    store(incoming, orders, &mut outcome)?;
    outcome.dead.sort_unstable();
    Ok(outcome)
}

fn read(message: &Message) -> Result<Order, String> {
    if let Some(schema) = message.schema
        && schema != SCHEMA
    {
        return Err(format!("unknown schema {schema}"));
    }
    if message.id.is_some_and(|id| id.contains('\0')) {
        return Err("the message_id contains U+0000".to_owned());
    }
    Order::parse(message.body).map_err(|invalid| invalid.to_string())
}

/// Stores all orders at once. If the database rejects the values of one, stores them one by one, so that the others
/// succeed.
fn store(
    incoming: Vec<(usize, IncomingOrder)>,
    orders: &mut impl OrderStore,
    outcome: &mut BatchOutcome,
) -> Result<(), Error> {
    if incoming.is_empty() {
        return Ok(());
    }
    let (positions, batch): (Vec<_>, Vec<_>) = incoming.into_iter().unzip();
    match orders.store(&batch) {
        Err(Error::Refused(_)) => {}
        stored => {
            outcome.add(&positions, &stored?);
            return Ok(());
        }
    }
    for (position, order) in positions.into_iter().zip(batch) {
        match orders.store(std::slice::from_ref(&order)) {
            Err(Error::Refused(reason)) => outcome.dead.push((position, reason)),
            stored => outcome.add(&[position], &stored?),
        }
    }
    Ok(())
}

impl BatchOutcome {
    /// Adds the result of storing the messages at `positions`.
    fn add(&mut self, positions: &[usize], stored: &Stored) {
        self.stored += stored.new;
        let conflicts = stored.conflicts.iter().filter_map(|at| positions.get(*at));
        self.dead.extend(conflicts.map(|position| (*position, CONFLICT.to_owned())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &[u8] = br#"{"user_id":"3","number_of_items":"5","total_amount":"180"}"#;

    /// Remembers what it was given, and refuses the orders of one user, and with them any batch they are in.
    #[derive(Default)]
    struct Ledger {
        stored: Vec<IncomingOrder>,
        refused_user: &'static str,
        /// A message id that was used before, for a body that occurs in no test.
        used_id: &'static str,
        away: bool,
    }

    impl OrderStore for Ledger {
        fn store(&mut self, batch: &[IncomingOrder]) -> Result<Stored, Error> {
            if self.away {
                return Err(Error::Database("away".to_owned()));
            }
            if batch.iter().any(|incoming| incoming.order.user_id() == self.refused_user) {
                return Err(Error::Refused("no such user".to_owned()));
            }
            let is_used = |incoming: &IncomingOrder| incoming.message_id.as_deref() == Some(self.used_id);
            let conflicts: Vec<_> = batch
                .iter()
                .enumerate()
                .filter(|(_, incoming)| is_used(incoming))
                .map(|(at, _)| at)
                .collect();
            self.stored.extend_from_slice(batch);
            Ok(Stored { new: (batch.len() - conflicts.len()) as u64, conflicts })
        }
    }

    fn message<'a>(id: Option<&'a str>, body: &'a [u8]) -> Message<'a> {
        Message { id, schema: None, body }
    }

    #[test]
    fn a_repeated_id_in_one_batch_is_one_order_and_no_id_is_always_one() {
        let mut ledger = Ledger::default();
        let messages = [
            message(Some("a"), ORDER),
            message(Some("a"), ORDER),
            message(None, ORDER),
            message(None, ORDER),
        ];
        let outcome = process(&messages, &mut ledger).unwrap();
        assert_eq!(outcome, BatchOutcome { stored: 3, dead: Vec::new() });
    }

    #[test]
    fn an_id_that_comes_with_another_body_is_dead_wherever_the_first_one_is() {
        const OTHER: &[u8] = br#"{"user_id":"4","number_of_items":"5","total_amount":"180"}"#;
        let mut ledger = Ledger { used_id: "old", ..Ledger::default() };
        let messages = [
            message(Some("a"), b"{"),
            message(Some("b"), ORDER),
            message(Some("b"), ORDER),
            message(Some("b"), OTHER),
            message(Some("old"), ORDER),
        ];
        let outcome = process(&messages, &mut ledger).unwrap();
        assert_eq!(outcome.stored, 1);
        let positions: Vec<_> = outcome.dead.iter().map(|(position, _)| *position).collect();
        assert_eq!(positions, [0, 3, 4]);
        assert_eq!((outcome.dead[1].1.as_str(), outcome.dead[2].1.as_str()), (CONFLICT, CONFLICT));
    }

    #[test]
    fn what_can_never_succeed_is_told_apart_with_its_reason() {
        let mut ledger = Ledger { refused_user: "13", ..Ledger::default() };
        let refused = br#"{"user_id":"13","number_of_items":1,"total_amount":1}"#;
        let future = Message { id: Some("f"), schema: Some("order.v9"), body: ORDER };
        let messages = [
            message(Some("a"), b"{"),
            message(Some("b"), ORDER),
            message(Some("c"), refused),
            future,
            message(None, b"{}"),
        ];
        let outcome = process(&messages, &mut ledger).unwrap();
        assert_eq!(outcome.stored, 1);
        let positions: Vec<_> = outcome.dead.iter().map(|(position, _)| *position).collect();
        assert_eq!(positions, [0, 2, 3, 4]);
        assert_eq!(outcome.dead[1].1, "no such user");
        assert_eq!(outcome.dead[2].1, "unknown schema order.v9");
        assert!(outcome.dead[3].1.contains("user_id is required"), "{}", outcome.dead[3].1);
        assert_eq!(ledger.stored.len(), 1);
    }

    #[test]
    fn a_database_that_is_away_settles_nothing() {
        let mut ledger = Ledger { away: true, ..Ledger::default() };
        let messages = [message(Some("a"), ORDER), message(Some("b"), b"{")];
        assert!(matches!(process(&messages, &mut ledger), Err(Error::Database(_))));
    }
}
