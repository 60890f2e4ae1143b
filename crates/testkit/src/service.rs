//! One of our binaries as a running process.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use crate::guardian::{self, End};
use crate::{Folder, Settings, patience, send_signal, wait_until};

/// How much of the log a failed test shows.
const LOG_TAIL_BYTES: usize = 16 * 1024;

/// A binary with its settings, running or not. Its standard error goes into a file, which a failing test shows. It is
/// killed when dropped.
pub struct Service {
    binary: PathBuf,
    settings: Settings,
    /// The text that it logs when it is ready.
    ready_line: &'static str,
    /// Its working directory, with the log in it; no `.env` is in it or above it.
    folder: Folder,
    child: Option<Child>,
    /// Length of the log when the process was last started; lines before it are from an earlier process.
    log_start: usize,
    addr: Option<SocketAddr>,
}

impl Service {
    /// A service that is not started yet. `settings` is its whole environment.
    pub fn new(binary: impl Into<PathBuf>, settings: Settings) -> Self {
        Self {
            binary: binary.into(),
            settings,
            ready_line: "listening on ",
            folder: Folder::new("service"),
            child: None,
            log_start: 0,
            addr: None,
        }
    }

    /// Treats the service as ready once it logs a line that contains `line`, instead of `listening on `.
    #[must_use]
    pub fn ready_when(mut self, line: &'static str) -> Self {
        self.ready_line = line;
        self
    }

    /// Changes a setting for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// Starts the process and waits until it says that it is ready. A service that must keep its port over restarts
    /// needs one from [`free_port`](crate::free_port), not 0.
    pub fn start(&mut self) {
        self.spawn();
        let line = self.wait_for_line(self.ready_line);
        if let Some((_, rest)) = line.split_once("listening on ") {
            let addr = rest.split_whitespace().next().and_then(|word| word.parse().ok());
            self.addr = Some(addr.unwrap_or_else(|| panic!("no address in this line: {line}")));
        }
    }

    /// Starts the process without waiting for anything.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name());
        self.log_start = self.log().len();
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("stderr"))
            .expect("open the service's log");
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("start {}: {e}", self.binary.display()));
        guardian::watch(child.id(), End::Kill);
        self.child = Some(child);
    }

    /// Runs the binary with `arguments` (such as `--check`) to its end, independently of the running process.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).stdin(Stdio::null()).output().expect("run the binary")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear();
        // Every binary has a private listener, and many run at once.
        for prefix in ["GATEWAY", "INVENTORY", "BILLING", "BROKER"] {
            command.env(format!("{prefix}_PRIVATE_PORT"), "0");
        }
        command.envs(&self.settings).current_dir(self.folder.path());
        command
    }

    /// Waits until the process that runs now has logged a line that contains `text`; returns that line.
    #[track_caller]
    pub fn wait_for_line(&mut self, text: &str) -> String {
        let mut line = None;
        let what = format!("{} logs \"{text}\"", self.name());
        wait_until(patience(), &what, || {
            let ended = !self.is_running();
            let log = self.log();
            let fresh = log.get(self.log_start..).unwrap_or_default();
            // The last line counts only when it is complete.
            line = fresh
                .split_inclusive('\n')
                .find(|l| l.contains(text) && l.ends_with('\n'))
                .map(str::to_owned);
            assert!(line.is_some() || !ended, "{} ended instead of logging \"{text}\"", self.name());
            line.is_some()
        });
        line.expect("a line was found")
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr.unwrap_or_else(|| panic!("{} has not said where it listens", self.name()))
    }

    /// Whether it has been started and not been stopped since.
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// The address of its private listener (`/ready`, `/metrics` and more).
    pub fn private_addr(&self) -> SocketAddr {
        let log = self.log();
        let line = log.lines().rev().find_map(|line| line.split_once("private listener at "));
        let addr = line.and_then(|(_, addr)| addr.parse().ok());
        addr.unwrap_or_else(|| panic!("{} has not said where its private listener is", self.name()))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name())).id()
    }

    /// Whether the process is running. It may have ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("wait for the service").is_none())
    }

    /// Sends a signal by its name, as [`send_signal`] does.
    pub fn signal(&self, name: &str) {
        send_signal(self.pid(), name);
    }

    /// Asks the process to stop with SIGTERM, waits until it has and returns its exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits until the process has ended by itself or by a signal sent before; returns its exit status.
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name());
        wait_until(patience(), &what, || !self.is_running());
        let mut child = self.child.take().unwrap_or_else(|| panic!("{} does not run", self.name()));
        guardian::forget(child.id(), End::Kill);
        child.wait().expect("wait for the service")
    }

    /// Kills the process with SIGKILL, as a crash would.
    pub fn kill_9(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().expect("kill the service");
        guardian::forget(child.id(), End::Kill);
        child.wait().expect("wait for the killed service");
    }

    /// SIGTERM, then a fresh start with the same settings.
    pub fn restart(&mut self) {
        self.terminate();
        self.start();
    }

    /// All that it logged, over all starts.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The name of the binary.
    pub fn name(&self) -> String {
        self.binary.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill_9();
        if std::thread::panicking() {
            let log = self.log();
            let mut start = log.len().saturating_sub(LOG_TAIL_BYTES);
            while !log.is_char_boundary(start) {
                start += 1;
            }
            eprintln!("--- {} logged:\n{}---", self.name(), &log[start..]);
        }
    }
}
