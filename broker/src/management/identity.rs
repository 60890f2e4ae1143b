//! As what the broker presents itself to programs that know RabbitMQ.

/// The name of the one node, and of the cluster that it makes.
pub(super) const NODE: &str = "broker@localhost";
/// The version of RabbitMQ whose management API this is: programs decide by it what they may ask for.
pub(super) const API_VERSION: &str = "3.10.0";
