//! `inventory-app`: settings, then build, then run.

use std::process::ExitCode;

use foundation::Shutdown;
use foundation::program::{self, Mode, Program};
use inventory::INVENTORY;

static PROGRAM: Program = Program {
    name: INVENTORY.name,
    version: INVENTORY.version,
    about: "CRUD and search of movies over HTTP, in PostgreSQL.\n\n\
            Reads its settings from the environment and from .env: INVENTORY_HOST, INVENTORY_PORT,\n\
            INVENTORY_DB_HOST, _PORT, _NAME, _USER, _PASSWORD, LOG_LEVEL and the limits that .env lists.",
};

fn main() -> ExitCode {
    let describe = || INVENTORY.describe().map_err(|error| error.to_string());
    program::run_or_describe(&PROGRAM, Some(describe), |environment, mode| {
        let settings = inventory::settings(environment)?;
        match mode {
            Mode::Check => INVENTORY.check(&settings),
            Mode::Serve => INVENTORY.build(settings, Shutdown::on_signals()?)?.run(),
        }
    })
}
