//! Runs commands against a platform of their own: `cargo run -p system-tests --example with_platform -- COMMAND`.
//!
//! `COMMAND` is a line for bash. It finds the platform through `GATEWAY_URL`, `INVENTORY_URL`, `BILLING_QUEUE`,
//! `RABBITMQ_PORT`, `RABBITMQ_USER` and `RABBITMQ_PASSWORD`. A second one may follow: then billing is started only
//! between the two, so that the first sees a platform whose orders wait. `SYSTEM_TESTS_RABBITMQ=1` takes RabbitMQ for
//! the broker. The exit status is 0 when all commands succeed; otherwise the services' logs are shown.
#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use std::process::{Command, ExitCode};

use harness::{Platform, Postgres};

fn main() -> ExitCode {
    let commands: Vec<_> = std::env::args().skip(1).collect();
    let (first, second) = match commands.as_slice() {
        [only] => (only, None),
        [first, second] => (first, Some(second)),
        _ => {
            eprintln!("usage: with_platform COMMAND [COMMAND WITH BILLING]");
            return ExitCode::from(2);
        }
    };
    let mut platform = Platform::stopped_on(Postgres::shared());
    platform.inventory.start();
    if second.is_none() {
        platform.billing.start();
    }
    platform.gateway.start();
    platform.wait_until_ready();
    let mut succeeded = run(first, &platform);
    if let Some(second) = second.filter(|_| succeeded) {
        platform.billing.start();
        succeeded = run(second, &platform);
    }
    if succeeded {
        return ExitCode::SUCCESS;
    }
    for service in [&platform.gateway, &platform.inventory, &platform.billing] {
        eprintln!("--- {} logged:\n{}---", service.name(), service.log());
    }
    ExitCode::FAILURE
}

fn run(command: &str, platform: &Platform) -> bool {
    let status = Command::new("bash")
        .args(["-c", command])
        .env("GATEWAY_URL", format!("http://{}", platform.addr()))
        .env("INVENTORY_URL", format!("http://{}", platform.inventory.addr()))
        .envs(platform.broker.settings())
        .env("BILLING_QUEUE", "billing_queue")
        .status();
    match status {
        Ok(status) => status.success(),
        Err(e) => {
            eprintln!("cannot run bash: {e}");
            false
        }
    }
}
