//! A gateway in this process, for limits that no variable changes.

use std::sync::Mutex;
use std::thread::{self, JoinHandle};

use foundation::{Environment, Shutdown};
use gateway::{Error, Gateway, Settings};
use log::{LevelFilter, Log, Metadata, Record};

use super::{Answer, Client, free_port};

/// What all gateways of this process have logged.
static LOG: Mutex<String> = Mutex::new(String::new());

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut log = LOG.lock().unwrap();
        log.push_str(&record.args().to_string());
        log.push('\n');
    }

    fn flush(&self) {}
}

/// A gateway that runs on a thread; it ends with the value.
pub struct LocalGateway {
    addr: std::net::SocketAddr,
    shutdown: Shutdown,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl LocalGateway {
    /// Starts a gateway in front of the inventories at `urls`, whose settings `change` may change.
    pub fn start(urls: &str, change: impl FnOnce(&mut Settings)) -> Self {
        // The first gateway of the process sets the logger.
        let _ = log::set_logger(&Logger);
        log::set_max_level(LevelFilter::Debug);
        let broker = format!("127.0.0.1:{}", free_port());
        let environment = Environment::from_pairs([
            ("GATEWAY_HOST", "127.0.0.1"),
            ("GATEWAY_PORT", "0"),
            ("GATEWAY_PRIVATE_PORT", "0"),
            ("INVENTORY_URL", urls),
            ("RABBITMQ_HOST", &broker),
            ("RABBITMQ_USER", "user"),
            ("RABBITMQ_PASSWORD", "dummy"),
        ]);
        let mut settings = Settings::read(&environment).unwrap();
        change(&mut settings);
        let shutdown = Shutdown::new();
        let gateway = Gateway::build(settings, shutdown.clone()).unwrap();
        let addr = gateway.addr();
        Self { addr, shutdown, thread: Some(thread::spawn(move || gateway.run())) }
    }

    /// A connection to the gateway.
    pub fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    /// GET of `target` on a connection of its own.
    pub fn get(&self, target: &str) -> Answer {
        self.connect().get(target)
    }

    /// Whether a line with this text was logged so far, by any gateway of this process.
    pub fn has_logged(text: &str) -> bool {
        LOG.lock().unwrap().contains(text)
    }

    /// Asks it to stop and waits until it has.
    pub fn stop(mut self) {
        self.shutdown.request();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for LocalGateway {
    fn drop(&mut self) {
        self.shutdown.request();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
