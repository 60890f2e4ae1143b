//! The properties and headers of a message (AMQP 0-9-1 §4.2.6).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use amqprs::{
    BasicProperties, DELIVERY_MODE_PERSISTENT, DELIVERY_MODE_TRANSIENT, FieldTable, FieldValue, LongStr,
    ShortStr,
};

/// The properties and headers of a message.
#[derive(Clone, Debug, Default)]
pub struct Properties(pub(super) Box<BasicProperties>);

impl Properties {
    /// The properties of a persistent JSON message, sent now by the program `app_id`. An empty `message_id`, or one
    /// over 255 bytes (the protocol's limit for short strings), is left out.
    pub fn persistent_json(app_id: &str, message_id: &str) -> Self {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        let mut properties = BasicProperties::default();
        properties
            .with_delivery_mode(DELIVERY_MODE_PERSISTENT)
            .with_content_type("application/json")
            .with_timestamp(seconds)
            .with_app_id(app_id);
        if !message_id.is_empty() && ShortStr::try_from(message_id).is_ok() {
            properties.with_message_id(message_id);
        }
        Self(Box::new(properties))
    }

    /// The properties of a JSON message that need not survive a restart of the broker, sent now by the program
    /// `app_id`.
    pub fn transient_json(app_id: &str) -> Self {
        let Self(mut properties) = Self::persistent_json(app_id, "");
        properties.with_delivery_mode(DELIVERY_MODE_TRANSIENT);
        Self(properties)
    }

    /// Sets the timestamp, in seconds since 1970: the time of an event that is published later.
    #[must_use]
    pub fn with_timestamp(mut self, seconds: u64) -> Self {
        self.0.with_timestamp(seconds);
        self
    }

    /// The timestamp, in seconds since 1970.
    pub fn timestamp(&self) -> Option<u64> {
        self.0.timestamp()
    }

    /// Adds or replaces a text header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let (Ok(name), Ok(value)) = (ShortStr::try_from(name), LongStr::try_from(value)) else { return self };
        let mut headers = self.0.headers().cloned().unwrap_or_else(FieldTable::new);
        // The library counts the table's size wrongly if the name is already in it.
        headers.remove(&name);
        headers.insert(name, FieldValue::S(value));
        self.0.with_headers(headers);
        self
    }

    /// The text header `name`.
    pub fn header(&self, name: &str) -> Option<String> {
        match self.0.headers()?.get(&ShortStr::try_from(name).ok()?)? {
            FieldValue::S(value) => Some(value.to_string()),
            _ => None,
        }
    }

    /// Removes a header.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        let Ok(name) = ShortStr::try_from(name) else { return self };
        if let Some(mut headers) = self.0.headers().cloned() {
            headers.remove(&name);
            self.0.with_headers(headers);
        }
        self
    }

    /// Makes a question of the message: the answer goes to the queue `reply_to` and carries `id`, and the broker may
    /// drop a question that nobody has taken after `lifetime`.
    #[must_use]
    pub fn with_question(mut self, id: &str, reply_to: &str, lifetime: Duration) -> Self {
        self.0
            .with_message_id(id)
            .with_correlation_id(id)
            .with_reply_to(reply_to)
            .with_expiration(&lifetime.as_millis().to_string());
        self
    }

    /// Makes an answer of the message, to the question `id`.
    #[must_use]
    pub fn with_correlation_id(mut self, id: &str) -> Self {
        self.0.with_correlation_id(id);
        self
    }

    /// The queue for the answer, if the message is a question.
    pub fn reply_to(&self) -> Option<&str> {
        self.0.reply_to().map(String::as_str)
    }

    /// The question that the message is or answers.
    pub fn correlation_id(&self) -> Option<&str> {
        self.0.correlation_id().map(String::as_str)
    }

    /// The id by which a repeated message is recognised.
    pub fn message_id(&self) -> Option<&str> {
        self.0.message_id().map(String::as_str)
    }

    /// A copy for publishing the message again as another user: persistent, and without `user_id` (the broker refuses
    /// another user's) and `expiration` (the broker would drop the message). Both are kept as headers.
    #[must_use]
    pub fn for_republishing(&self) -> Self {
        let (old, mut new) = (&self.0, BasicProperties::default());
        new.with_delivery_mode(DELIVERY_MODE_PERSISTENT);
        let _ = old.content_type().map(|value| new.with_content_type(value).finish());
        let _ = old.content_encoding().map(|value| new.with_content_encoding(value).finish());
        let _ = old.headers().map(|value| new.with_headers(value.clone()).finish());
        let _ = old.priority().map(|value| new.with_priority(value).finish());
        let _ = old.correlation_id().map(|value| new.with_correlation_id(value).finish());
        let _ = old.reply_to().map(|value| new.with_reply_to(value).finish());
        let _ = old.message_id().map(|value| new.with_message_id(value).finish());
        let _ = old.timestamp().map(|value| new.with_timestamp(value).finish());
        let _ = old.message_type().map(|value| new.with_message_type(value).finish());
        let _ = old.app_id().map(|value| new.with_app_id(value).finish());
        let mut republished = Self(Box::new(new));
        for (name, value) in
            [("x-original-user-id", old.user_id()), ("x-original-expiration", old.expiration())]
        {
            if let Some(value) = value {
                republished = republished.with_header(name, value);
            }
        }
        republished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_added_replaced_and_read() {
        let properties = Properties::persistent_json("app", "id-1").with_header("schema", "order.v1");
        let properties = properties.with_header("schema", "order.v2").with_header("other", "x");
        assert_eq!(properties.header("schema").as_deref(), Some("order.v2"));
        assert_eq!(properties.header("other").as_deref(), Some("x"));
        assert_eq!(properties.header("absent"), None);
        let properties = properties.without_header("other").without_header("absent");
        assert_eq!((properties.header("other"), properties.header("schema").is_some()), (None, true));
        assert_eq!(properties.message_id(), Some("id-1"));
    }

    #[test]
    fn a_republished_message_keeps_all_but_what_would_hinder_it() {
        let mut original = BasicProperties::default();
        original.with_user_id("somebody").with_expiration("1000").with_message_id("m").with_reply_to("r");
        let republished = Properties(Box::new(original)).for_republishing();
        assert_eq!((republished.0.user_id(), republished.0.expiration()), (None, None));
        assert_eq!(republished.header("x-original-user-id").as_deref(), Some("somebody"));
        assert_eq!(republished.header("x-original-expiration").as_deref(), Some("1000"));
        assert_eq!(republished.message_id(), Some("m"));
        assert_eq!(republished.0.reply_to().map(String::as_str), Some("r"));
        assert_eq!(republished.0.delivery_mode(), Some(DELIVERY_MODE_PERSISTENT));
    }
}
