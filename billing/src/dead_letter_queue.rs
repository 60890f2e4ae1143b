//! Lists the dead-letter queue for people, and requeues or discards single letters.
//!
//! Always reads the queue itself, because other programs may add and take letters as well.

use std::fmt::Write;

use amqp::{BrowseLimits, Browsed, Connection, Delivery};
use order::question::{Answer, DeadLetter};
use sha2::{Digest, Sha256};

use crate::consumer::REASON_HEADER;
use crate::error::Error;
use crate::repository::Repository;
use crate::settings::Settings;

/// How much of the queue is read, from its head. Later letters are reached once earlier ones are gone.
const HEAD: BrowseLimits = BrowseLimits { messages: 1_000, bytes: 4 << 20 };
/// Most bytes of a body that are listed.
const BODY_SHOWN_MAX_BYTES: usize = 2_048;

/// The oldest letters, at most `limit`.
pub(crate) fn list(connection: &Connection, settings: &Settings, limit: u32) -> Result<Answer, Error> {
    let messages = HEAD.messages.min(usize::try_from(limit).unwrap_or(usize::MAX));
    let browsed = connection.browse(&settings.dead_letter_queue(), BrowseLimits { messages, ..HEAD })?;
    let letters = browsed.messages().iter().map(describe).collect();
    browsed.finish()?;
    Ok(Answer::DeadLetters { letters })
}

/// Deletes the letter `id`.
pub(crate) fn discard(connection: &Connection, settings: &Settings, id: &str) -> Result<Answer, Error> {
    let browsed = connection.browse(&settings.dead_letter_queue(), HEAD)?;
    let Some(letter) = find(&browsed, id) else {
        browsed.finish()?;
        return Ok(Answer::NotFound);
    };
    log::info!(
        "the dead letter {id}, message_id={}, is discarded",
        letter.properties.message_id().unwrap_or("-")
    );
    browsed.ack(letter.tag);
    browsed.finish()?;
    Ok(Answer::Done)
}

/// Sends the letter `id` back to the orders' queue. Removes it from the dead-letter queue once the broker has confirmed
/// the copy.
pub(crate) fn requeue(
    connection: &Connection,
    settings: &Settings,
    repository: &mut Repository,
    id: &str,
) -> Result<Answer, Error> {
    let browsed = connection.browse(&settings.dead_letter_queue(), HEAD)?;
    let Some(letter) = find(&browsed, id) else {
        browsed.finish()?;
        return Ok(Answer::NotFound);
    };
    let message_id = letter.properties.message_id().filter(|id| !id.contains('\0'));
    let reason = letter.properties.header(REASON_HEADER).unwrap_or_default();
    // Recorded first, because the consumer may find it dead again before this function continues.
    if let Some(message_id) = message_id {
        repository.mark_requeued(message_id, &reason)?;
    }
    let properties = letter.properties.for_republishing().without_header(REASON_HEADER);
    let published =
        connection.publish(&settings.queue, properties, letter.body.clone(), settings.confirm_timeout);
    if let Err(error) = published {
        if let Some(message_id) = message_id {
            repository.mark_dead(message_id)?;
        }
        return Err(Error::DeadLetter(error));
    }
    log::info!(
        "the dead letter {id}, message_id={}, goes back to {}",
        message_id.unwrap_or("-"),
        settings.queue
    );
    browsed.ack(letter.tag);
    browsed.finish()?;
    Ok(Answer::Done)
}

fn find<'b>(browsed: &'b Browsed, id: &str) -> Option<&'b Delivery> {
    browsed.messages().iter().find(|letter| letter_id(letter) == id)
}

/// Identifies a letter by its message id and body. Letters that are equal in both share the id: any of them will do.
fn letter_id(letter: &Delivery) -> String {
    let message_id = letter.properties.message_id().unwrap_or_default();
    let mut digest = Sha256::new();
    digest.update((message_id.len() as u64).to_be_bytes());
    digest.update(message_id);
    digest.update(&letter.body);
    let mut id = String::new();
    for byte in &digest.finalize()[..16] {
        // Writing to a text cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

fn describe(letter: &Delivery) -> DeadLetter {
    let shown = &letter.body[..letter.body.len().min(BODY_SHOWN_MAX_BYTES)];
    DeadLetter {
        id: letter_id(letter),
        message_id: letter.properties.message_id().map(str::to_owned),
        reason: letter.properties.header(REASON_HEADER),
        sent_s: letter.properties.timestamp(),
        body: String::from_utf8_lossy(shown).into_owned(),
        body_bytes: letter.body.len() as u64,
    }
}
