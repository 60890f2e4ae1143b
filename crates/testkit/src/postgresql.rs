//! A throwaway PostgreSQL cluster.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use postgres::{Client, Config, NoTls};

use crate::guardian::{self, End};
use crate::signals::{children_of, try_send_signal};
use crate::{Folder, Settings, free_port, patience, send_signal, wait_until};

/// A PostgreSQL cluster with a new data folder, a port of the loopback address, and a unix socket in its folder. Its
/// data survives [`Postgres::kill_9`], but not a crash of the machine, because fsync is off.
pub struct Postgres {
    /// The folder with the server's programs.
    programs: PathBuf,
    /// The user that runs the server when the tests run as root, which PostgreSQL refuses.
    user: Option<User>,
    folder: Folder,
    port: u16,
    /// The superuser's.
    password: String,
    server: Mutex<Option<Child>>,
}

/// A user of the operating system.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// The cluster that all tests of a process share. Do not stop it; to stop one, use [`Postgres::start`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a separate cluster, for a test that stops or pauses it. Takes about a second.
    pub fn start() -> Self {
        let folder = Folder::new("postgres");
        let user = unprivileged_user();
        if let Some(User { uid, gid }) = user {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid))
                .expect("give the folder to postgres");
        }
        let cluster = Self {
            programs: find_programs(),
            user,
            folder,
            port: free_port(),
            password: crate::password(),
            server: Mutex::new(None),
        };
        cluster.initialise();
        cluster.start_again();
        cluster
    }

    fn initialise(&self) {
        let password_file = self.folder.path().join("password");
        fs::write(&password_file, &self.password).expect("write the password file");
        if let Some(User { uid, gid }) = self.user {
            std::os::unix::fs::chown(&password_file, Some(uid), Some(gid)).expect("give it to postgres");
        }
        let output = self
            .program("initdb")
            .args(["--no-sync", "--username=postgres", "--auth=scram-sha-256"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8"])
            .arg(format!("--pwfile={}", password_file.display()))
            .arg(self.data())
            .output()
            .expect("run initdb");
        assert!(output.status.success(), "initdb failed:\n{}", String::from_utf8_lossy(&output.stderr));
        fs::remove_file(&password_file).expect("remove the password file");
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        if let Some(User { uid, gid }) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn server(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the server again after [`Postgres::stop`] or [`Postgres::kill_9`], on the same port and with the same
    /// data, and waits until it answers.
    pub fn start_again(&self) {
        let mut server = self.server();
        assert!(server.is_none(), "PostgreSQL runs already");
        // The backends of a killed server need a moment to let go of its memory; until then it refuses to start.
        wait_until(patience(), "PostgreSQL starts", || {
            let mut child = self.spawn();
            let mut ready = false;
            wait_until(patience(), "PostgreSQL answers or gives up", || {
                ready = self.superuser("postgres").is_ok();
                ready || child.try_wait().expect("wait for postgres").is_some()
            });
            if ready {
                guardian::watch(child.id(), End::Quit);
                *server = Some(child);
            }
            ready
        });
    }

    fn spawn(&self) -> Child {
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("open PostgreSQL's log");
        self.program("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-c", "listen_addresses=127.0.0.1", "-p", &self.port.to_string()])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", self.folder.path().display()))
            .args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=300"])
            .args(["-c", "shared_buffers=64MB", "-c", "timezone=UTC", "-c", "log_timezone=UTC"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start postgres")
    }

    /// Stops the server; clients lose their connections. Committed data stays.
    pub fn stop(&self) {
        let mut server = self.server();
        let child = server.as_mut().expect("PostgreSQL runs");
        send_signal(child.id(), "INT");
        wait_until(patience(), "PostgreSQL stops", || child.try_wait().expect("wait for postgres").is_some());
        guardian::forget(child.id(), End::Quit);
        *server = None;
    }

    /// Kills the server and every backend, as a crash would. Committed data stays.
    pub fn kill_9(&self) {
        let mut server = self.server();
        let child = server.as_mut().expect("PostgreSQL runs");
        // Stopped first, so that it starts no further backend while its children are looked up.
        send_signal(child.id(), "STOP");
        for pid in children_of(child.id()) {
            try_send_signal(pid, "KILL");
        }
        child.kill().expect("kill postgres");
        guardian::forget(child.id(), End::Quit);
        child.wait().expect("wait for the killed postgres");
        *server = None;
    }

    /// Freezes the server and every backend (SIGSTOP): connections stay open, but nothing answers.
    pub fn pause(&self) {
        self.signal_all("STOP");
    }

    /// Continues the server after [`Postgres::pause`].
    pub fn resume(&self) {
        self.signal_all("CONT");
    }

    fn signal_all(&self, signal: &str) {
        let server = self.server();
        let pid = server.as_ref().expect("PostgreSQL runs").id();
        send_signal(pid, signal);
        for child in children_of(pid) {
            try_send_signal(child, signal);
        }
    }

    /// Creates an empty database with a random name and its own owner, as each service has one.
    pub fn create_database(&self) -> Database {
        let name = format!("db_{}", crate::hex(6));
        let database = Database {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: format!("user_{}", crate::hex(6)),
            password: crate::password(),
            name,
        };
        let Database { name, user, .. } = &database;
        let password = database.password.replace('\'', "''");
        let mut client = self.superuser("postgres").expect("connect as the superuser");
        for statement in [
            format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'"),
            format!("CREATE DATABASE {name} OWNER {user}"),
        ] {
            client.batch_execute(&statement).expect("create a database");
        }
        database
    }

    /// Connects to a database as the superuser.
    pub fn superuser(&self, database: &str) -> Result<Client, postgres::Error> {
        Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user("postgres")
            .password(&self.password)
            .dbname(database)
            .connect_timeout(Duration::from_secs(5))
            .connect(NoTls)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut child) = self.server().take() {
            // An immediate shutdown; nothing of it is wanted any more. A paused one has to hear of it.
            for signal in ["QUIT", "CONT"] {
                try_send_signal(child.id(), signal);
                for pid in children_of(child.id()) {
                    try_send_signal(pid, "CONT");
                }
            }
            let _ = child.wait();
            guardian::forget(child.id(), End::Quit);
        }
    }
}

/// A database and the role that owns it.
#[derive(Clone, Debug)]
pub struct Database {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The database's name.
    pub name: String,
    /// Its owner.
    pub user: String,
    /// The owner's password, which contains every special character.
    pub password: String,
}

impl Database {
    /// Connects as the owner.
    pub fn client(&self) -> Client {
        self.try_client().unwrap_or_else(|e| panic!("connect to {}: {e}", self.name))
    }

    /// [`Database::client`] for a server that may be down.
    pub fn try_client(&self) -> Result<Client, postgres::Error> {
        Config::new()
            .host(&self.host)
            .port(self.port)
            .user(&self.user)
            .password(&self.password)
            .dbname(&self.name)
            .connect_timeout(Duration::from_secs(5))
            .connect(NoTls)
    }

    /// The settings for a service that uses it, such as `INVENTORY_DB_HOST` if `prefix` is `INVENTORY_DB`.
    pub fn settings(&self, prefix: &str) -> Settings {
        [
            ("HOST", self.host.clone()),
            ("PORT", self.port.to_string()),
            ("NAME", self.name.clone()),
            ("USER", self.user.clone()),
            ("PASSWORD", self.password.clone()),
        ]
        .into_iter()
        .map(|(name, value)| (format!("{prefix}_{name}"), value))
        .collect()
    }
}

/// The folder that holds `initdb`, `postgres` and `pg_ctl`: that of the programs in PATH, else the newest of Debian's
/// packages.
fn find_programs() -> PathBuf {
    let complete =
        |folder: &Path| ["initdb", "postgres", "pg_ctl"].iter().all(|program| folder.join(program).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A wrapper somewhere in PATH stands alone; the real programs, links to them resolved, stand together.
    let in_path = std::env::split_paths(&path)
        .filter_map(|folder| fs::canonicalize(folder.join("initdb")).ok())
        .filter_map(|initdb| initdb.parent().map(Path::to_path_buf))
        .find(|folder| complete(folder));
    let packaged = || {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
        let folders = versions.flatten().map(|version| version.path().join("bin"));
        folders.filter(|folder| complete(folder)).max_by_key(|folder| major_version(folder))
    };
    in_path.or_else(packaged).unwrap_or_else(|| {
        panic!(
            "these tests need PostgreSQL's server programs in PATH or under /usr/lib/postgresql; install them with \
             `apt-get install postgresql`"
        )
    })
}

/// 15 for `/usr/lib/postgresql/15/bin`.
fn major_version(programs: &Path) -> u32 {
    let version = programs.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// The user `postgres` if this process is root; else `None`: the server then runs as the current user.
fn unprivileged_user() -> Option<User> {
    let me = fs::metadata("/proc/self").expect("read /proc/self").uid();
    if me != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
    let entry = users.lines().find_map(|line| line.strip_prefix("postgres:")).unwrap_or_else(|| {
        panic!(
            "root cannot run PostgreSQL and there is no user postgres; `apt-get install postgresql` makes one"
        )
    });
    let mut numbers = entry.split(':').skip(1).filter_map(|field| field.parse().ok());
    let (Some(uid), Some(gid)) = (numbers.next(), numbers.next()) else {
        panic!("the user postgres has no ids in /etc/passwd")
    };
    Some(User { uid, gid })
}
