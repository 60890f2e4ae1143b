//! `inventory-app`: settings, then build, then run.

use std::process::ExitCode;

use foundation::Shutdown;
use foundation::program::{self, Mode, Program};
use inventory::{Error, Settings};

const PROGRAM: Program = Program {
    name: "inventory-app",
    version: env!("CARGO_PKG_VERSION"),
    about: "CRUD and search of movies over HTTP, in PostgreSQL.\n\n\
            Reads its settings from the environment and from .env: INVENTORY_HOST, INVENTORY_PORT,\n\
            INVENTORY_DB_HOST, _PORT, _NAME, _USER, _PASSWORD, LOG_LEVEL and the limits that .env lists.",
    prefixes: &["INVENTORY_"],
    elsewhere: &["INVENTORY_URL"],
};

fn main() -> ExitCode {
    program::run(&PROGRAM, Settings::read, |settings, mode| match mode {
        Mode::Check => inventory::check(&settings),
        Mode::Serve => {
            let shutdown = Shutdown::on_signals().map_err(Error::from)?;
            inventory::build(settings, shutdown)?.run()
        }
    })
}
