//! A broker process of a test's own: a free port, a folder, obvious dummy credentials.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::http::Api;
use crate::support::{Client, Login, PATIENCE};

pub(crate) const USER: &str = "test-user";
pub(crate) const PASSWORD: &str = "dummy:password with, signs";

pub(crate) struct Server {
    child: Option<Child>,
    pub(crate) address: SocketAddr,
    pub(crate) folder: PathBuf,
    settings: Vec<(&'static str, String)>,
    /// The limit of open files, if it is not that of the tests.
    open_files: Option<u32>,
    log: Arc<Mutex<String>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a broker with further settings.
    pub(crate) fn with(settings: &[(&'static str, &str)]) -> Self {
        Self::begin(None, settings)
    }

    /// Starts a broker that may have only so many files and sockets open.
    pub(crate) fn with_open_files(limit: u32, settings: &[(&'static str, &str)]) -> Self {
        Self::begin(Some(limit), settings)
    }

    fn begin(open_files: Option<u32>, settings: &[(&'static str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("broker-wire-{}-{number}", std::process::id()));
        let mut server = Self {
            child: None,
            address: ([127, 0, 0, 1], 0).into(),
            folder,
            settings: settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            open_files,
            log: Arc::default(),
        };
        server.run();
        server
    }

    pub(crate) fn command(&self) -> Command {
        let broker = env!("CARGO_BIN_EXE_broker");
        let mut command = Command::new(self.open_files.map_or(broker, |_| "/bin/sh"));
        if let Some(limit) = self.open_files {
            command.args(["-c", &format!("ulimit -n {limit} && exec {broker}")]);
        }
        command
            .env_clear()
            // Not where a .env could be found.
            .current_dir(std::env::temp_dir())
            .env("BROKER_PORT", "0")
            .env("BROKER_PRIVATE_PORT", "0")
            .env("BROKER_DATA_DIR", &self.folder)
            .env("RABBITMQ_USER", USER)
            .env("RABBITMQ_PASSWORD", PASSWORD)
            .envs(self.settings.iter().map(|(name, value)| (*name, value)))
            .stderr(Stdio::piped());
        command
    }

    /// Starts the process again on the same folder.
    pub(crate) fn run(&mut self) {
        let mut child = self.command().spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::clone(&self.log);
        let address = lines.by_ref().map(Result::unwrap).find_map(|line| {
            let address = line.split("listening on ").nth(1).map(|address| address.parse().unwrap());
            log.lock().unwrap().extend([line.as_str(), "\n"]);
            address
        });
        self.address = address.unwrap_or_else(|| panic!("it did not start: {}", self.log()));
        self.child = Some(child);
        // Keeps the pipe from filling up.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                log.lock().unwrap().extend([line.as_str(), "\n"]);
            }
        });
    }

    /// The most memory that it ever had, in KiB (`VmHWM`).
    pub(crate) fn peak_kib(&self) -> u64 {
        let id = self.child.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Everything it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn login() -> Login {
        Login::new(USER, PASSWORD)
    }

    /// A connection with channel 1 open.
    pub(crate) fn client(&self) -> Client {
        let mut client = Client::connect(self.address, &Self::login());
        client.open_channel(1);
        client
    }

    /// A connection with channel 1 open and in confirm mode.
    pub(crate) fn publisher(&self) -> Client {
        let mut client = self.client();
        client.confirm_select(1);
        client
    }

    /// The private listener, for somebody without a user.
    pub(crate) fn anonymous(&self) -> Api {
        let log = self.log();
        // The last one: the process may have been started again.
        let addr = log.lines().filter_map(|line| line.split("private listener at ").nth(1)).next_back();
        Api::anonymous(addr.unwrap().parse().unwrap())
    }

    /// The private listener, for the first user.
    pub(crate) fn api(&self) -> Api {
        self.anonymous().with_user(USER, PASSWORD)
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and the exit status.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap()
    }

    pub(crate) fn restart_after_kill(&mut self) {
        self.kill();
        self.run();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Tries until `check` gives a value.
pub(crate) fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
