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
    prefixes: &["INVENTORY_"],
    elsewhere: &["INVENTORY_URL"],
    describe: Some(|| INVENTORY.describe().map_err(|error| error.to_string())),
};

fn main() -> ExitCode {
    program::run(&PROGRAM, inventory::settings, |settings, mode| match mode {
        Mode::Check => INVENTORY.check(&settings),
        Mode::Serve => {
            let shutdown = Shutdown::on_signals()?;
            INVENTORY.build(settings, shutdown)?.run()
        }
    })
}
