//! The binary: settings, then the gateway, then an exit status.

use std::process::ExitCode;

use foundation::Shutdown;
use foundation::program::{self, Mode, Program, Tool};
use gateway::{Error, Gateway, Settings};

const PROGRAM: Program = Program {
    name: "api-gateway",
    version: env!("CARGO_PKG_VERSION"),
    about: "The public face of the movie platform: passes requests on to inventory and other services, and puts orders\n\
            that arrive at /api/billing on the queue. Every setting comes from the environment or from .env; the main\n\
            ones are GATEWAY_HOST, GATEWAY_PORT, INVENTORY_URL, RABBITMQ_HOST and LOG_LEVEL.\n\n\
            --new-token NAME ROLE makes a token for a client; ROLE is read, write or admin.",
    prefixes: &["GATEWAY_"],
    elsewhere: &[],
    describe: None,
};

const NEW_TOKEN: Tool = Tool {
    flag: "--new-token",
    arguments: &["NAME", "ROLE"],
    run: |arguments| gateway::new_token(&arguments[0], &arguments[1]),
};

fn main() -> ExitCode {
    program::run_tool(&PROGRAM, &NEW_TOKEN).unwrap_or_else(|| program::run(&PROGRAM, Settings::read, work))
}

fn work(settings: Settings, mode: Mode) -> Result<(), Error> {
    match mode {
        Mode::Check => gateway::check(&settings),
        Mode::Serve => Gateway::build(settings, Shutdown::on_signals()?)?.run(),
    }
}
