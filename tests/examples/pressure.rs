//! What clients meet while others are slow, silent or greedy: `pressure [SECONDS]`, ten by default.
//!
//! Starts a platform of its own for each kind of pressure, keeps that up for so long, and asks for single movies, pages
//! and searches beside it, from an address of its own. Prints the slowest answers, the answers that were no 200, the
//! transactions that stood open in PostgreSQL, and how much memory gateway and inventory took for it. Build the
//! binaries with `--release` for figures that mean something.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a measuring program, run by hand, that ends at the first surprise"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use testkit::{Platform, Postgres, Service};

/// Movies in the table, so that a list is worth many socket buffers.
const MOVIES: u32 = 60_000;
/// The pause of a slow client between two small steps.
const STEP: Duration = Duration::from_millis(100);
/// How long a client may wait before the answer counts as missing.
const PATIENCE: Duration = Duration::from_secs(30);

/// One kind of pressure: so many clients, each with an address of the loopback network, run this until told to stop.
struct Pressure {
    name: &'static str,
    clients: u32,
    /// How many addresses they share.
    addresses: u8,
    /// Straight at inventory, not at the gateway.
    at_inventory: bool,
    client: fn(&Client),
}

/// One client that is a burden.
struct Client {
    target: SocketAddr,
    from: Ipv4Addr,
    stop: Arc<AtomicBool>,
}

static ALL: [Pressure; 6] = [
    Pressure { name: "nothing", clients: 0, addresses: 1, at_inventory: false, client: silent },
    Pressure { name: "40 slow uploads", clients: 40, addresses: 4, at_inventory: false, client: slow_upload },
    Pressure {
        name: "60 slow readers of lists",
        clients: 60,
        addresses: 4,
        at_inventory: false,
        client: slow_reader,
    },
    Pressure {
        name: "1,024 silent connections",
        clients: 1_024,
        addresses: 4,
        at_inventory: false,
        client: silent,
    },
    Pressure {
        name: "40 withheld bodies at inventory",
        clients: 40,
        addresses: 1,
        at_inventory: true,
        client: withheld_body,
    },
    Pressure {
        name: "8 pipelining at inventory",
        clients: 8,
        addresses: 1,
        at_inventory: true,
        client: pipeline,
    },
];

fn main() {
    let seconds = std::env::args().nth(1).map_or(10, |text| text.parse().expect("a number of seconds"));
    let postgres = Postgres::start();
    for pressure in &ALL {
        under(pressure, &postgres, Duration::from_secs(seconds));
    }
    huge_length(&postgres);
    frozen_database();
    frozen_instance(&postgres);
}

fn platform(postgres: &Postgres) -> Platform {
    let platform = Platform::start_on(postgres);
    let sql = format!(
        "INSERT INTO movies (title, description) \
         SELECT 'Movie ' || md5(i::text), 'A film about number ' || i FROM generate_series(1, {MOVIES}) i; \
         ANALYZE movies"
    );
    platform.movies_db.client().batch_execute(&sql).expect("fill the table");
    platform
}

fn under(pressure: &Pressure, postgres: &Postgres, lasting: Duration) {
    let platform = platform(postgres);
    let inventory = platform.inventory.addr();
    let stop = Arc::new(AtomicBool::new(false));
    let before = memory(&platform);
    let clients: Vec<_> = (0..pressure.clients)
        .map(|number| {
            let client = Client {
                target: if pressure.at_inventory { inventory } else { platform.addr() },
                from: Ipv4Addr::new(
                    127,
                    0,
                    1,
                    u8::try_from(number % u32::from(pressure.addresses)).expect("small") + 1,
                ),
                stop: stop.clone(),
            };
            let run = pressure.client;
            thread::Builder::new().stack_size(64 << 10).spawn(move || run(&client)).expect("start a client")
        })
        .collect();
    let probes = ["/api/movies/77", "/api/movies?limit=50&after=1000", "/api/movies?title=c4ca4238a0"];
    let probes = probes.map(|target| (target, probe(platform.addr(), target, lasting)));
    let transactions = most_transactions(&platform, lasting);
    let during = memory(&platform);
    println!("== {}", pressure.name);
    for (target, probe) in probes {
        let Probed { count, slowest, failed } = probe.join().expect("a probe");
        println!("  {target:35} {count:6} answers, slowest {:6.1} ms, not 200: {failed}", millis(slowest));
    }
    println!(
        "  transactions open: {transactions}; memory: gateway {:+.1} MiB, inventory {:+.1} MiB",
        during.0 - before.0,
        during.1 - before.1
    );
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("a client");
    }
}

/// What an honest client met.
struct Probed {
    count: u32,
    slowest: Duration,
    failed: u32,
}

/// Asks again and again, each time on a connection of its own.
fn probe(gateway: SocketAddr, target: &'static str, lasting: Duration) -> JoinHandle<Probed> {
    thread::spawn(move || {
        let (start, mut probed) = (Instant::now(), Probed { count: 0, slowest: Duration::ZERO, failed: 0 });
        while start.elapsed() < lasting {
            let asked = Instant::now();
            let status = ask(gateway, Ipv4Addr::new(127, 0, 9, 9), target);
            probed.count += 1;
            probed.slowest = probed.slowest.max(asked.elapsed());
            probed.failed += u32::from(status != Some(200));
            thread::sleep(Duration::from_millis(10));
        }
        probed
    })
}

/// The status of one GET, if there is an answer.
fn ask(server: SocketAddr, from: Ipv4Addr, target: &str) -> Option<u16> {
    let mut stream = connect(server, from).ok()?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
}

fn connect(server: SocketAddr, from: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // A slow reader's own buffer must not take the whole list.
    socket.set_recv_buffer_size(4 << 10)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&server.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

impl Client {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Connects again for as long as the pressure lasts, and does `work` on each connection until that fails.
    fn keep(&self, work: impl Fn(&mut TcpStream) -> std::io::Result<()>) {
        while self.goes_on() {
            if let Ok(mut stream) = connect(self.target, self.from) {
                // The server's way to end it is what is tried here.
                let _ = work(&mut stream);
            }
            thread::sleep(STEP);
        }
    }
}

fn slow_upload(client: &Client) {
    client.keep(|stream| {
        write!(
            stream,
            "POST /api/movies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 200000\r\n\r\n"
        )?;
        while client.goes_on() {
            stream.write_all(b" ")?;
            thread::sleep(STEP);
        }
        Ok(())
    });
}

fn slow_reader(client: &Client) {
    client.keep(|stream| {
        write!(stream, "GET /api/movies HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut piece = [0; 1_024];
        while client.goes_on() && stream.read(&mut piece)? > 0 {
            thread::sleep(STEP);
        }
        Ok(())
    });
}

fn silent(client: &Client) {
    client.keep(|stream| {
        stream.set_read_timeout(Some(STEP))?;
        while client.goes_on() {
            match stream.read(&mut [0; 64]) {
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                _ => return Ok(()),
            }
        }
        Ok(())
    });
}

fn withheld_body(client: &Client) {
    client.keep(|stream| {
        write!(
            stream,
            "POST /api/movies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        )?;
        while client.goes_on() {
            thread::sleep(STEP);
        }
        Ok(())
    });
}

/// Sends requests and reads no answer.
fn pipeline(client: &Client) {
    let requests = "GET /api/movies/1 HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(500);
    client.keep(|stream| {
        stream.set_write_timeout(Some(STEP))?;
        while client.goes_on() {
            match stream.write(requests.as_bytes()) {
                Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e),
                _ => {}
            }
        }
        Ok(())
    });
}

/// A length that no machine has the memory for.
fn huge_length(postgres: &Postgres) {
    let mut platform = platform(postgres);
    let before = memory(&platform);
    for length in ["1125899906842624", "9223372036854775807", "18446744073709551615"] {
        let mut stream =
            connect(platform.inventory.addr(), Ipv4Addr::LOCALHOST).expect("connect to inventory");
        write!(
            stream,
            "POST /api/movies HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{{"
        )
        .expect("send a head");
        let mut answer = [0; 64];
        let count = stream.read(&mut answer).unwrap_or(0);
        println!(
            "== Content-Length {length}: {}",
            String::from_utf8_lossy(&answer[..count]).lines().next().unwrap_or("-")
        );
    }
    let status = ask(platform.addr(), Ipv4Addr::LOCALHOST, "/api/movies/1");
    let during = memory(&platform);
    println!(
        "  inventory runs: {}, a movie: {status:?}, memory {:+.1} MiB",
        platform.inventory.is_running(),
        during.1 - before.1
    );
}

/// PostgreSQL stands still, and goes on.
fn frozen_database() {
    let postgres = Postgres::start();
    let mut platform = platform(&postgres);
    postgres.pause();
    let timed = |target: &str| {
        let start = Instant::now();
        let status = ask(platform.addr(), Ipv4Addr::LOCALHOST, target);
        format!(
            "{target} {} after {:.1} ms",
            status.map_or("-".to_owned(), |status| status.to_string()),
            millis(start.elapsed())
        )
    };
    println!("== PostgreSQL frozen");
    for target in ["/api/movies/1", "/api/movies?limit=5", "/health", "/ready"] {
        println!("  {}", timed(target));
    }
    postgres.resume();
    let start = Instant::now();
    while ask(platform.addr(), Ipv4Addr::LOCALHOST, "/api/movies/1") != Some(200)
        && start.elapsed() < PATIENCE
    {
        thread::sleep(Duration::from_millis(10));
    }
    println!("  recovered after {:.1} ms", millis(start.elapsed()));
    postgres.pause();
    let _ = ask(platform.addr(), Ipv4Addr::LOCALHOST, "/api/movies/1");
    let start = Instant::now();
    let status = platform.inventory.terminate();
    println!(
        "  frozen again, SIGTERM: inventory ended with {status} after {:.1} ms",
        millis(start.elapsed())
    );
    postgres.resume();
}

/// One of two inventories stands still.
fn frozen_instance(postgres: &Postgres) {
    let mut platform = platform(postgres);
    let mut second: Service = platform.second_inventory();
    second.start();
    platform.gateway.terminate();
    let urls = format!("http://{},http://{}", platform.inventory.addr(), second.addr());
    platform.gateway.set("INVENTORY_URL", &urls);
    platform.gateway.start();
    platform.wait_until_ready();
    second.signal("STOP");
    let (mut slow, mut failed, mut slowest) = (0, 0, Duration::ZERO);
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < Duration::from_secs(30) {
        let asked = Instant::now();
        let status = ask(platform.addr(), Ipv4Addr::LOCALHOST, "/api/movies/1");
        count += 1;
        failed += u32::from(status != Some(200));
        slow += u32::from(asked.elapsed() > Duration::from_secs(1));
        slowest = slowest.max(asked.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    second.signal("CONT");
    println!(
        "== one of two inventories frozen for 30 s: {count} requests one after the other, {slow} took longer than 1 s, {failed} were not 200, slowest {:.1} ms",
        millis(slowest)
    );
}

/// The most transactions that are open at once in the movies' database, this program's own aside.
fn most_transactions(platform: &Platform, lasting: Duration) -> i64 {
    let mut client = platform.movies_db.client();
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()";
    let (start, mut most) = (Instant::now(), 0);
    while start.elapsed() < lasting {
        most = most.max(client.query_one(open, &[]).expect("count transactions").get(0));
        thread::sleep(Duration::from_millis(50));
    }
    most
}

/// What gateway and inventory hold, in MiB.
fn memory(platform: &Platform) -> (f64, f64) {
    (pss_mib(platform.gateway.pid()), pss_mib(platform.inventory.pid()))
}

fn pss_mib(pid: u32) -> f64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1_024.0
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
