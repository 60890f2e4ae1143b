//! Runs commands against a platform of their own, which is brought into a state before each of them:
//! `cargo run -p system-tests --example with_platform -- STATE COMMAND [STATE COMMAND]…`.
//!
//! `COMMAND` is a line for bash. It finds the platform through `GATEWAY_URL`, `INVENTORY_URL`, `RABBITMQ_PORT`,
//! `RABBITMQ_USER` and `RABBITMQ_PASSWORD`, and the private listeners through `API_GATEWAY_PRIVATE_URL` and so on
//! (for our own broker `BROKER_PRIVATE_URL`); `API_GATEWAY_PID`, `INVENTORY_APP_PID`, `BILLING_APP_PID` and `BROKER_PID`
//! are processes that a command may freeze and thaw.
//! `SYSTEM_TESTS_RABBITMQ=1` takes RabbitMQ for the broker. The exit status is 0 when all commands succeed; after the first
//! that does not, the services' logs are shown.
#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use std::net::SocketAddr;
use std::process::{Command, ExitCode};

use testkit::http::Connection;
use testkit::{Platform, Postgres, Service, binary, free_port, http, patience, wait_until};

/// What is the matter with the platform.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    NoBilling,
    NoInventory,
    /// Inventory takes connections and requests, and does not answer.
    FrozenInventory,
    /// What answers at `INVENTORY_URL` does not speak HTTP.
    WrongInventory,
    /// PostgreSQL is stopped, and with it both databases.
    NoDatabase,
    NoBroker,
    /// Every client may have one connection, and has it.
    OneConnection,
    /// The gateway has the three tokens of the collection of faults.
    WithTokens,
    /// `examples/todo` is behind the gateway, too.
    FurtherService,
}

const STATES: [(&str, State); 10] = [
    ("running", State::Running),
    ("no-billing", State::NoBilling),
    ("no-inventory", State::NoInventory),
    ("frozen-inventory", State::FrozenInventory),
    ("wrong-inventory", State::WrongInventory),
    ("no-database", State::NoDatabase),
    ("no-broker", State::NoBroker),
    ("one-connection", State::OneConnection),
    ("with-tokens", State::WithTokens),
    ("further-service", State::FurtherService),
];

/// `collection-read`, `collection-write` and `collection-admin`, as docs/crud-master-faults.postman_collection.json says.
const TOKENS: &str = "reader:read:8ffe35628b72cbc8c5d8155c2134e65c446fc81e2366baf0ea4f08c90d47cd1c,\
     writer:write:1de243bafd3876ec5df844c1633f3fa29280692df736c0739c50ec753315f67c,\
     chief:admin:2459a3bba7a77f0cc482a9c02d48073d4c593069883c6c64c61f2ac744665668";

fn main() -> ExitCode {
    let Some(steps) = steps() else {
        let states = STATES.map(|(name, _)| name).join(", ");
        eprintln!("usage: with_platform STATE COMMAND [STATE COMMAND]…\nstates: {states}");
        return ExitCode::from(2);
    };
    let mut platform = Platform::start();
    let mut todo = todo();
    for (state, command) in steps {
        if !step(&mut platform, &mut todo, state, &command) {
            for service in [&platform.gateway, &platform.inventory, &platform.billing, &todo] {
                eprintln!("--- {} logged:\n{}---", service.name(), service.log());
            }
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn steps() -> Option<Vec<(State, String)>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (pairs, []) = arguments.as_chunks::<2>() else { return None };
    let step = |[state, command]: &[String; 2]| {
        let (_, state) = STATES.iter().find(|(name, _)| name == state)?;
        Some((*state, command.clone()))
    };
    if pairs.is_empty() { None } else { pairs.iter().map(step).collect() }
}

/// The example todo with a database of its own, not started yet.
fn todo() -> Service {
    let mut todo = Service::new(binary("todo-app"), Postgres::shared().create_database().settings("TODO_DB"));
    todo.set("TODO_PORT", &free_port().to_string());
    todo.set("TODO_PRIVATE_PORT", "0");
    todo.set("TODO_OWNER", "Team Orange");
    todo
}

/// Brings the platform into `state` and runs the command. What is broken for that is mended afterwards, or by the next
/// step. The gateway always starts anew, and so has not heard of anyone.
fn step(platform: &mut Platform, todo: &mut Service, state: State, command: &str) -> bool {
    let wrong_url = format!("http://127.0.0.1:{}", platform.broker.port);
    let inventory_url = format!("http://{}", platform.inventory.addr());
    let url = if state == State::WrongInventory { wrong_url } else { inventory_url };
    let connections = if state == State::OneConnection { "1" } else { "256" };
    platform.gateway.set("INVENTORY_URL", &url);
    platform.gateway.set("GATEWAY_DEPLOYMENT", "script");
    platform.gateway.set("GATEWAY_MAX_CONNECTIONS_PER_CLIENT", connections);
    platform.gateway.set("GATEWAY_TOKENS", if state == State::WithTokens { TOKENS } else { "" });
    // A connection that is held is held for as long as the command takes.
    let patience_ms = if state == State::OneConnection { "600000" } else { "60000" };
    platform.gateway.set("GATEWAY_IDLE_TIMEOUT_MS", patience_ms);
    keep(&mut platform.inventory, state != State::NoInventory);
    keep(&mut platform.billing, state != State::NoBilling);
    let has_todo = state == State::FurtherService;
    keep(todo, has_todo);
    platform.gateway.set("GATEWAY_SERVICES", if has_todo { "todo=/todo" } else { "" });
    let todo_url = if has_todo { format!("http://{}", todo.addr()) } else { String::new() };
    platform.gateway.set("TODO_URL", &todo_url);
    platform.gateway.restart();
    if !matches!(state, State::NoInventory | State::WrongInventory) {
        platform.wait_until_ready();
    }
    match state {
        State::FrozenInventory => {
            platform.inventory.signal("STOP");
            let succeeded = run(command, platform);
            platform.inventory.signal("CONT");
            succeeded
        }
        State::NoDatabase => {
            Postgres::shared().stop();
            let succeeded = run(command, platform);
            Postgres::shared().start_again();
            succeeded
        }
        State::NoBroker => {
            platform.broker.stop();
            let succeeded = run(command, platform);
            platform.broker.start_again();
            succeeded
        }
        State::OneConnection => {
            let mut held = None;
            wait_until(patience(), "the client gets its one connection", || {
                held = hold_connection(platform.addr());
                held.is_some()
            });
            wait_until(patience(), "the client has all the connections it may have", || {
                let answer = http::try_request(platform.addr(), "GET", "/health", None);
                answer.is_ok_and(|answer| answer.status == 429)
            });
            run(command, platform)
        }
        _ => run(command, platform),
    }
}

/// An idle connection; `None` while an earlier one of this client still has the place.
fn hold_connection(gateway: SocketAddr) -> Option<Connection> {
    let mut connection = Connection::open(gateway).ok()?;
    let answer = connection.request("GET", "/health", &[], None).ok()?;
    (answer.status == 200).then_some(connection)
}

/// Starts or stops a service, if need be.
fn keep(service: &mut Service, running: bool) {
    match (service.is_running(), running) {
        (false, true) => service.start(),
        (true, false) => drop(service.terminate()),
        _ => {}
    }
}

/// The variable that has the process of a service that runs, so that a command can let it stand still: `BILLING_APP_PID`.
fn process(service: &Service) -> Option<(String, String)> {
    let name = service.name().replace('-', "_").to_uppercase();
    service.is_started().then(|| (format!("{name}_PID"), service.pid().to_string()))
}

/// The variable that names the private listener of a service that runs: `BILLING_APP_PRIVATE_URL` for billing-app.
fn private(service: &Service) -> Option<(String, String)> {
    let name = service.name().replace('-', "_").to_uppercase();
    service.is_started().then(|| {
        let addr = service.private_addr();
        (format!("{name}_PRIVATE_URL"), format!("http://{addr}"))
    })
}

fn run(command: &str, platform: &Platform) -> bool {
    let services = [&platform.gateway, &platform.inventory, &platform.billing];
    let broker = platform.broker.management_addr();
    let status = Command::new("bash")
        .args(["-c", command])
        .env("GATEWAY_URL", format!("http://{}", platform.addr()))
        .env("INVENTORY_URL", format!("http://{}", platform.inventory.addr()))
        .envs(services.into_iter().filter_map(private))
        .envs(services.into_iter().filter_map(process))
        .envs(platform.broker.pid().map(|pid| ("BROKER_PID", pid.to_string())))
        .envs(platform.broker.settings())
        .envs(broker.map(|addr| ("BROKER_PRIVATE_URL", format!("http://{addr}"))))
        .status();
    match status {
        Ok(status) => status.success(),
        Err(e) => {
            eprintln!("cannot run bash: {e}");
            false
        }
    }
}
