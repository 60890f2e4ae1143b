//! What the broker counts of connections since its start.

use foundation::metrics::Counter;

/// Connections and channels that came and went.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounters {
    pub(crate) connections_opened: Counter,
    pub(crate) connections_closed: Counter,
    pub(crate) channels_opened: Counter,
    pub(crate) channels_closed: Counter,
}
