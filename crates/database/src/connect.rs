//! Opening a connection within a deadline.
//!
//! The library's own timeout covers the TCP handshake alone: a server that accepts and then says nothing would hold its
//! caller for ever. So each attempt runs on a thread of its own, and the caller waits for it only until the deadline. A
//! short probe goes first: only a server that answers the probe and then hangs leaves a thread behind, and the number
//! of such threads is limited.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use postgres::config::Host;
use postgres::{Config, NoTls};

use crate::migrate::{self, Migration};
use crate::{Connection, DatabaseSettings, Error};

/// Most attempts of a process at a time, including abandoned ones whose threads have not ended.
const ATTEMPTS_MAX: usize = 8;

/// How long the migrations may take altogether, including the wait for another program that migrates.
const MIGRATION_LIMIT: Duration = Duration::from_secs(300);

/// `SSLRequest` (PostgreSQL's protocol, "Message Formats"): the shortest message that a server answers, with one byte,
/// before the client has named a user.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

const CONNECT: &str = "connect to postgresql";
const MIGRATE: &str = "migrate the schema in postgresql";

/// What the connecting thread reports to its caller.
enum ConnectProgress {
    /// The connection is open, and the schema needs a migration, which may take longer than connecting.
    Migrating,
    Finished(Box<Result<Connection, Error>>),
}

impl DatabaseSettings {
    /// Opens a connection and brings the schema up to date. Returns within [`DatabaseSettings::connect_timeout`], or
    /// within five minutes when migrations have to be applied.
    pub fn connect(&self, migrations: &'static [Migration]) -> Result<Connection, Error> {
        let attempt = Attempt::begin(self)?;
        let (sender, progress) = sync_channel(2);
        let settings = self.clone();
        let name = format!("{}-connect", self.application);
        thread::Builder::new()
            .name(name)
            .spawn(move || {
                let outcome = open(&settings, migrations, &sender);
                // The caller may have given up; then the connection is closed.
                let _ = sender.send(ConnectProgress::Finished(Box::new(outcome)));
                drop(attempt);
            })
            .map_err(Error::Thread)?;
        let (mut action, mut limit) = (CONNECT, self.connect_timeout);
        loop {
            match progress.recv_timeout(limit) {
                Ok(ConnectProgress::Migrating) => (action, limit) = (MIGRATE, MIGRATION_LIMIT),
                Ok(ConnectProgress::Finished(outcome)) => {
                    log::debug!("{}: connected to postgresql", self.application);
                    return *outcome;
                }
                Err(RecvTimeoutError::Timeout) => return Err(self.timed_out(action, limit)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Thread(std::io::Error::other("it ended without a result")));
                }
            }
        }
    }

    fn timed_out(&self, action: &'static str, limit: Duration) -> Error {
        Error::TimedOut { action, server: self.server.clone(), limit }
    }
}

/// One attempt that counts against [`ATTEMPTS_MAX`] until its thread has ended.
struct Attempt(Arc<AtomicUsize>);

impl Attempt {
    fn begin(settings: &DatabaseSettings) -> Result<Self, Error> {
        let attempt = Self(settings.attempts.clone());
        let attempts = settings.attempts.fetch_add(1, Ordering::Relaxed);
        if attempts < ATTEMPTS_MAX {
            Ok(attempt)
        } else {
            Err(Error::Hanging { server: settings.server.clone(), attempts })
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn open(
    settings: &DatabaseSettings,
    migrations: &[Migration],
    progress: &SyncSender<ConnectProgress>,
) -> Result<Connection, Error> {
    let config = settings.config();
    probe(settings, &config)?;
    let refused = |source| Error::Connect { server: settings.server.clone(), source };
    let mut client = config.connect(NoTls).map_err(refused)?;
    if !migrate::is_current(&mut client, migrations)? {
        let _ = progress.send(ConnectProgress::Migrating);
        migrate::apply(&mut client, migrations)?;
    }
    if let Ok(rows) = client.query("SHOW server_version", &[])
        && let Some(version) = rows.first().and_then(|row| row.try_get(0).ok())
    {
        settings.note_server_version(version);
    }
    Ok(Connection::new(client))
}

/// Checks that the server sends any answer at all. Fails only if none comes in time; the attempt that follows describes
/// every other problem better.
fn probe(settings: &DatabaseSettings, config: &Config) -> Result<(), Error> {
    let limit = settings.connect_timeout;
    let deadline = Instant::now() + limit;
    let remaining = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let answer = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => connect_tcp(host, port, remaining).and_then(|mut stream| {
            stream.set_read_timeout(Some(remaining()))?;
            ask(&mut stream)
        }),
        Some(Host::Unix(folder)) => {
            UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).and_then(|mut stream| {
                stream.set_read_timeout(Some(remaining()))?;
                ask(&mut stream)
            })
        }
        None => return Ok(()),
    };
    match answer {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(settings.timed_out(CONNECT, limit))
        }
        _ => Ok(()),
    }
}

fn connect_tcp(host: &str, port: u16, remaining: impl Fn() -> Duration) -> std::io::Result<TcpStream> {
    let mut outcome = Err(std::io::Error::from(ErrorKind::NotFound));
    for address in (host, port).to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&address, remaining());
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn ask(stream: &mut (impl Read + Write)) -> std::io::Result<()> {
    stream.write_all(&SSL_REQUEST)?;
    stream.read_exact(&mut [0; 1])
}
