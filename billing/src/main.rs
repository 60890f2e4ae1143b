//! `billing-app`: settings, then build, then run.

use std::process::ExitCode;

use billing::{Error, Settings};
use foundation::Shutdown;
use foundation::program::{self, Mode, Program};

const PROGRAM: Program = Program {
    name: "billing-app",
    version: env!("CARGO_PKG_VERSION"),
    about: "Consumes orders from the queue and stores them in PostgreSQL. Has no HTTP API.\n\n\
            Reads its settings from the environment and from .env: RABBITMQ_HOST, _PORT, _USER, _PASSWORD, _VHOST,\n\
            BILLING_QUEUE, BILLING_DB_HOST, _PORT, _NAME, _USER, _PASSWORD, LOG_LEVEL and the limits that .env lists.",
    prefixes: &["BILLING_"],
    elsewhere: &["BILLING_OWNER", "BILLING_CONTACT", "BILLING_REPOSITORY"],
    describe: None,
};

fn main() -> ExitCode {
    program::run(&PROGRAM, Settings::read, |settings, mode| match mode {
        Mode::Check => billing::check(&settings),
        Mode::Serve => {
            let shutdown = Shutdown::on_signals().map_err(Error::from)?;
            billing::build(settings, shutdown).run()
        }
    })
}
