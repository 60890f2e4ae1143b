//! The broker of a test: our own, or RabbitMQ when `SYSTEM_TESTS_RABBITMQ` is set, behind one interface.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::guardian::{self, End};
use crate::{Folder, Service, Settings, binary, free_port, patience, send_signal, settings, wait_until};

/// A broker with its own data folder, port and user. Confirmed messages survive stop and kill.
pub struct Broker {
    /// Its port on the loopback address, the same after every start.
    pub port: u16,
    /// Its user.
    pub user: String,
    /// The user's password.
    pub password: String,
    kind: Implementation,
}

enum Implementation {
    Embedded { service: Box<Service>, _data: Folder },
    RabbitMq(Box<RabbitMq>),
}

impl Broker {
    /// Starts a broker and waits until it takes connections.
    pub fn start() -> Self {
        let port = free_port();
        let user = format!("user-{}", crate::hex(4));
        if std::env::var_os("SYSTEM_TESTS_RABBITMQ").is_some_and(|value| !value.is_empty()) {
            let password = crate::hex(16);
            let mut rabbitmq = Box::new(RabbitMq::new(port, &user, &password));
            rabbitmq.start();
            return Self { port, user, password, kind: Implementation::RabbitMq(rabbitmq) };
        }
        let password = crate::password();
        let data = Folder::new("broker");
        let mut service = Service::new(
            binary("broker"),
            settings([
                ("BROKER_HOST", "127.0.0.1"),
                ("BROKER_PORT", &port.to_string()),
                ("BROKER_DATA_DIR", &data.path().join("data").display().to_string()),
                ("RABBITMQ_USER", &user),
                ("RABBITMQ_PASSWORD", &password),
            ]),
        );
        service.start();
        Self {
            port,
            user,
            password,
            kind: Implementation::Embedded { service: Box::new(service), _data: data },
        }
    }

    /// Whether it is RabbitMQ.
    pub fn is_rabbitmq(&self) -> bool {
        matches!(self.kind, Implementation::RabbitMq(_))
    }

    /// Where our own broker has its management API; `None` for RabbitMQ, whose plugin does not run here.
    pub fn management_addr(&self) -> Option<SocketAddr> {
        match &self.kind {
            Implementation::Embedded { service, .. } => Some(service.private_addr()),
            Implementation::RabbitMq(_) => None,
        }
    }

    /// The settings for a service that uses this broker.
    pub fn settings(&self) -> Settings {
        settings([
            ("RABBITMQ_HOST", "127.0.0.1"),
            ("RABBITMQ_PORT", &self.port.to_string()),
            ("RABBITMQ_USER", &self.user),
            ("RABBITMQ_PASSWORD", &self.password),
        ])
    }

    /// Stops it cleanly; the port becomes free.
    pub fn stop(&mut self) {
        match &mut self.kind {
            Implementation::Embedded { service, .. } => drop(service.terminate()),
            Implementation::RabbitMq(rabbitmq) => rabbitmq.stop("TERM"),
        }
    }

    /// Kills it as a crash would.
    pub fn kill_9(&mut self) {
        match &mut self.kind {
            Implementation::Embedded { service, .. } => service.kill_9(),
            Implementation::RabbitMq(rabbitmq) => rabbitmq.stop("KILL"),
        }
    }

    /// Starts it again after [`Broker::stop`] or [`Broker::kill_9`], on the same port and with the same data.
    pub fn start_again(&mut self) {
        match &mut self.kind {
            Implementation::Embedded { service, .. } => service.start(),
            Implementation::RabbitMq(rabbitmq) => rabbitmq.start(),
        }
    }

    /// Freezes it (SIGSTOP): connections stay open, but nothing answers.
    pub fn pause(&self) {
        send_signal(self.pid().expect("the broker runs"), "STOP");
    }

    /// Continues it after [`Broker::pause`].
    pub fn resume(&self) {
        send_signal(self.pid().expect("the broker runs"), "CONT");
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        match &self.kind {
            Implementation::Embedded { service, .. } => service.is_started().then(|| service.pid()),
            Implementation::RabbitMq(rabbitmq) => rabbitmq.server.as_ref().map(Child::id),
        }
    }
}

/// A RabbitMQ with its own node name, ports, data folder, cookie and port mapper (epmd).
struct RabbitMq {
    folder: Folder,
    port: u16,
    /// Where the mapper of Erlang node names listens.
    mapper_port: u16,
    mapper: Option<Child>,
    server: Option<Child>,
}

/// Debian's wrapper in /usr/sbin would change the user and all paths, so this is the folder of the wrapped programs.
const SERVER_PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

impl RabbitMq {
    fn new(port: u16, user: &str, password: &str) -> Self {
        assert!(
            Path::new(SERVER_PROGRAM).is_file(),
            "SYSTEM_TESTS_RABBITMQ is set, but there is no RabbitMQ; install it with `apt-get install rabbitmq-server`"
        );
        let folder = Folder::new("rabbitmq");
        let config = format!(
            "listeners.tcp.default = 127.0.0.1:{port}\ndefault_user = {user}\ndefault_pass = {password}\n\
             log.console = true\nlog.file = false\n"
        );
        fs::write(folder.path().join("rabbitmq.conf"), config).expect("write rabbitmq.conf");
        fs::write(folder.path().join("enabled_plugins"), "[].\n").expect("write enabled_plugins");
        Self { folder, port, mapper_port: free_port(), mapper: None, server: None }
    }

    fn command(&self, program: &Path) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            .env("HOME", folder)
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.port))
            .env("RABBITMQ_DIST_PORT", free_port().to_string())
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder)
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            // Makes the script become the server, so that our child is the server and not a shell around it.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn start(&mut self) {
        assert!(self.server.is_none(), "RabbitMQ runs already");
        if self.mapper.is_none() {
            let mapper = self.command(&find_mapper()).spawn().expect("start epmd");
            guardian::watch(mapper.id(), End::Kill);
            self.mapper = Some(mapper);
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, self.mapper_port));
            wait_until(patience(), "epmd listens", || TcpStream::connect(addr).is_ok());
        }
        let mut server =
            self.command(Path::new(SERVER_PROGRAM)).stdout(self.log()).spawn().expect("start RabbitMQ");
        guardian::watch(server.id(), End::Kill);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        // It listens as the last step of its start.
        wait_until(patience(), "RabbitMQ listens", || {
            assert!(
                server.try_wait().expect("wait for RabbitMQ").is_none(),
                "RabbitMQ ended instead of listening:\n{}",
                fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
            TcpStream::connect(addr).is_ok()
        });
        self.server = Some(server);
    }

    fn log(&self) -> fs::File {
        let path = self.folder.path().join("log");
        fs::OpenOptions::new().create(true).append(true).open(path).expect("open RabbitMQ's log")
    }

    fn stop(&mut self, signal: &str) {
        let mut server = self.server.take().expect("RabbitMQ runs");
        send_signal(server.id(), signal);
        wait_until(patience(), "RabbitMQ ends", || server.try_wait().expect("wait for RabbitMQ").is_some());
        guardian::forget(server.id(), End::Kill);
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        for child in [self.server.as_mut(), self.mapper.as_mut()].into_iter().flatten() {
            let _ = child.kill();
            guardian::forget(child.id(), End::Kill);
            let _ = child.wait();
        }
    }
}

/// The program `epmd`, which Erlang's packages put into PATH or into Erlang's own folder.
fn find_mapper() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join("epmd")).find(|epmd| epmd.is_file());
    in_path.expect("epmd, which comes with Erlang, is in PATH")
}
