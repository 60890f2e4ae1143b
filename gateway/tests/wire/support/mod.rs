//! What the tests share: a gateway process, a raw client, and inventories that behave as told.

#![allow(unreachable_pub, reason = "the tests are one program")]

mod broker;
mod client;
mod inventory;
mod local;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub use broker::{Broker, BrokerAnswer};
pub use client::{Answer, Client};
pub use inventory::{Inventory, ok};
pub use local::LocalGateway;
use testkit::free_port;

/// Longer than anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An inventory that answers every request with an empty list, and a gateway in front of it.
pub fn gateway() -> (Inventory, Gateway) {
    let inventory = Inventory::fixed("[]");
    let gateway = Gateway::start(&inventory.url(), &[]);
    (inventory, gateway)
}

/// Where the gateway finds no `.env`: the checkout's may have been changed, by a service that was added, for example.
pub const NO_SETTINGS: &str = "/";

pub fn gateway_binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_api-gateway"))
}

/// A token and the line that makes it valid, as `--new-token` prints them.
pub fn new_token(name: &str, role: &str) -> (String, String) {
    let output = gateway_binary().args(["--new-token", name, role]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    (lines[1].to_owned(), lines[3].to_owned())
}

/// The field that shows a token.
pub fn authorization(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A running gateway; it ends with the value.
pub struct Gateway {
    child: Child,
    pub addr: SocketAddr,
    log: Arc<Mutex<String>>,
    access_log: Arc<Mutex<String>>,
    /// When the last signal was sent.
    signalled: Option<Instant>,
}

impl Gateway {
    /// Starts a gateway in front of the inventories at `urls`, with further variables.
    pub fn start(urls: &str, variables: &[(&str, &str)]) -> Self {
        Self::spawn(gateway_binary(), urls, variables)
    }

    /// Starts a gateway that may open no more than `descriptors` files.
    pub fn start_with_descriptors(descriptors: u32, urls: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        let binary = env!("CARGO_BIN_EXE_api-gateway");
        command.args(["-c", &format!("ulimit -n {descriptors}; exec {binary}")]);
        Self::spawn(command, urls, variables)
    }

    fn spawn(mut command: Command, urls: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = command
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("GATEWAY_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", "0")
            // Most tests send any name.
            .env("GATEWAY_ALLOWED_HOSTS", "*")
            .env("INVENTORY_URL", urls)
            .env("GATEWAY_PRIVATE_PORT", "0")
            .env("RABBITMQ_HOST", format!("127.0.0.1:{}", free_port()))
            .env("RABBITMQ_USER", "user")
            .env("RABBITMQ_PASSWORD", "dummy")
            .env("LOG_LEVEL", "debug")
            .envs(variables.iter().copied())
            .current_dir(NO_SETTINGS)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let access_log = Arc::new(Mutex::new(String::new()));
        let (lines, copy) = (BufReader::new(child.stdout.take().unwrap()).lines(), access_log.clone());
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *copy.lock().unwrap() += &(line + "\n");
            }
        });
        let (found, port) = std::sync::mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let copy = log.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, addr)) = line.split_once("listening on ") {
                    let _ = found.send(addr.trim().parse().unwrap());
                }
                let mut log = copy.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let addr =
            port.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no gateway: {}", log.lock().unwrap()));
        Self { child, addr, log, access_log, signalled: None }
    }

    /// A connection to the gateway.
    pub fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    /// Sends `request` on a connection of its own and reads the answer.
    pub fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect();
        client.send(request.as_bytes());
        client.answer()
    }

    /// GET of `target` on a connection of its own.
    pub fn get(&self, target: &str) -> Answer {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n"))
    }

    /// Everything that was logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// What was written on standard output so far.
    pub fn access_log(&self) -> String {
        self.access_log.lock().unwrap().clone()
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Sends a signal, by its name without SIG.
    pub fn signal(&mut self, name: &str) {
        self.signalled = Some(Instant::now());
        testkit::send_signal(self.child.id(), name);
    }

    /// Waits until the process is gone; returns its status, and how long that took since the signal.
    pub fn wait(&mut self) -> (ExitStatus, Duration) {
        let started = self.signalled.unwrap();
        let mut status = None;
        eventually("the gateway is gone", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap(), started.elapsed())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    testkit::wait_until(PATIENCE, what, condition);
}
