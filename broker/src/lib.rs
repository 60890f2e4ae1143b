//! An embedded AMQP 0-9-1 broker: durable work queues for one machine, that any AMQP client can use. [`Spool`] is one
//! such queue as a library, without sockets.
//!
//! A message's way through the folders: in [`protocol`], `server` accepts, `connection` reads frames and `channel`
//! handles methods (`declare`, `exchanges`, `consume`, `publish`, `commit`). In [`log`], `persister` and
//! `segment_table` write the message to disk before it enters a `queue` of [`queues`], from which `delivery` moves it to
//! the `channel_output` of a consumer and the `send_buffer` of its connection. `log::recovery` reads the log back after
//! a start, `log::check` and `log::salvage` do so without serving, `log::housekeeper` and `log::compaction` keep it
//! small. [`management`] shows everything on the private listener, and changes it with the operations that [`protocol`]
//! uses.
//!
//! What a queue's [`queues::arguments`] ask for is kept by `queues::rules`, `queues::lifetimes` and `queues::limits`.
//! `queues::timers` know when a queue is due, `queues::upkeep` looks after it then, and `queues::dead_letters` sends away
//! what died.
//!
//! The folders know each other in one direction: `management` knows `protocol`, `protocol` knows `queues`, `queues`
//! knows `log`. What the log needs of queues is in the traits of `log::owner`, what it needs of publishers in
//! `log::write_batch`, what queues need of consumers in `queues::subscriber`. A `queues::store::Store` is everything of a
//! broker but its connections, `queues::store_threads` are its threads. No file knows another that knows it.
//!
//! Only `log::storage` touches files; `queues::queue`, `queues::exchange`, `log::record`, `codec` and `protocol::codec`
//! do no I/O at all. Locks are taken in one order: the counts of deleted queues, before the topology and before any
//! queue; a queue, then a channel's output, then a connection's send buffer; or a queue, then the log's write batch,
//! segment table or the timers.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foundation::Shutdown;
use foundation::listener::Identity;

mod broker;
mod clock;
mod codec;
mod descriptors;
mod error;
mod log;
mod logins;
mod management;
mod protocol;
mod queues;
mod settings;
mod spool;
mod sync;
#[cfg(test)]
mod tests;
mod users;

pub use crate::log::check::{check_log, salvage_log};
pub use error::Error;
pub use settings::Settings;
pub use spool::{PublishError, Spool, SpoolOptions, SpooledMessage};

use crate::broker::Broker;
use crate::log::storage::{DiskStorage, Storage};
use crate::management::Management;
use crate::protocol::codec::reply::Reply;
use crate::protocol::fault::{CONNECTION_FORCED, close_text};
use crate::protocol::throttle::Shortage;
use crate::queues::store_threads::StoreThreads;
use crate::sync::spawn;

/// How often connections are looked for that keep others waiting for memory.
const SLOW_INTERVAL: Duration = Duration::from_secs(1);
/// How long clients get to take note that the broker stops.
const FAREWELL: Duration = Duration::from_millis(300);

/// A broker that has recovered its log and is bound, and does not accept yet.
pub struct Server {
    broker: Arc<Broker>,
    listeners: Vec<Arc<TcpListener>>,
    address: SocketAddr,
    /// Held for as long as the data folder is ours.
    _lock: File,
}

/// Takes the data folder, recovers what is in it, and binds. `shutdown` ends [`Server::run`].
pub fn build(mut settings: Settings, shutdown: Shutdown) -> Result<Server, Error> {
    let folder = settings.data_dir.display().to_string();
    let storage: Arc<dyn Storage> =
        Arc::new(DiskStorage::open(&settings.data_dir).map_err(Error::io(format!("create {folder}")))?);
    let lock = log::folder_lock::take(&settings.data_dir)?;
    settings.max_connections = descriptors::connections(descriptors::raise_limit(), settings.max_connections);
    let (hosts, port) = (settings.host.clone(), settings.port);
    // Bound only when everything is recovered: a port that is open means a broker that answers.
    let broker = Broker::recover(settings, storage, shutdown)?;
    let listeners = protocol::listen::bind_all(&hosts, port)?;
    let address = listeners[0].local_addr().map_err(Error::io("read the listening address"))?;
    Ok(Server { broker: Arc::new(broker), listeners, address, _lock: lock })
}

impl Server {
    /// Where it listens; the first address, if there are several.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the shutdown flag is raised or the log fails. Everything that was published by then is written,
    /// and clients are told that the broker goes.
    pub fn run(self) -> Result<(), Error> {
        let broker = &self.broker;
        let told = Arc::downgrade(broker);
        broker.alarm.listen(move |raised| {
            for peer in told.upgrade().iter().flat_map(|broker| broker.peers()) {
                peer.throttle.set(Shortage::Disk, raised);
            }
        });
        let threads = StoreThreads::start(&broker.store)?;
        for listener in &self.listeners {
            let listener = Arc::clone(listener);
            spawn("accept", broker, move |broker| protocol::server::accept(broker, &listener))?;
        }
        let identity = Identity { name: "broker", version: env!("CARGO_PKG_VERSION") };
        let listening = self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let management = Arc::new(Management::new(Arc::clone(broker), listening));
        foundation::listener::start(&broker.settings.private, identity, management)?;
        for listener in &self.listeners {
            let address = listener.local_addr().map_err(Error::io("read the listening address"))?;
            ::log::info!("listening on {address}");
        }
        while !broker.shutdown.wait_timeout(SLOW_INTERVAL) {
            broker.close_slow_connections();
        }
        self.listeners.iter().for_each(|listener| protocol::server::stop_accepting(listener));
        say_farewell(broker);
        threads.stop()?;
        ::log::info!("stopped");
        Ok(())
    }
}

/// Closes every connection with 320 and gives clients a moment to answer.
fn say_farewell(broker: &Broker) {
    let text = close_text(CONNECTION_FORCED, "broker forced connection closure with reason 'shutdown'");
    for peer in broker.peers() {
        let (code, failed) = (CONNECTION_FORCED.0, (0, 0));
        peer.send_buffer.send(&Reply::ConnectionClose { code, text: &text, failed }, 0);
        peer.send_buffer.finish();
    }
    let deadline = Instant::now() + FAREWELL;
    while !broker.peers().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    for peer in broker.peers() {
        peer.send_buffer.close();
    }
}
