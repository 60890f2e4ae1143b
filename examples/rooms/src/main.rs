//! `rooms-app`: settings, then build, then run.

use std::process::ExitCode;

use foundation::Shutdown;
use foundation::program::{self, Mode, Program};
use rooms::{SERVICE, Settings};

static PROGRAM: Program = Program {
    name: SERVICE.name,
    version: SERVICE.version,
    about: "Rooms to let over HTTP, in PostgreSQL; changes are events on the exchange rooms.\n\n\
            Reads its settings from the environment and from .env: ROOMS_HOST, ROOMS_PORT,\n\
            ROOMS_DB_HOST, _PORT, _NAME, _USER, _PASSWORD, RABBITMQ_HOST, _PORT, _USER, _PASSWORD,\n\
            _VHOST, LOG_LEVEL and the same limits as inventory.",
    prefixes: &["ROOMS_"],
    elsewhere: &["ROOMS_URL", "ROOMS_VM", "ROOMS_EXCHANGE"],
    describe: Some(|| SERVICE.describe().map_err(|error| error.to_string())),
};

fn main() -> ExitCode {
    program::run(&PROGRAM, Settings::read, |settings, mode| match mode {
        Mode::Check => rooms::check(&settings),
        Mode::Serve => rooms::run(settings, Shutdown::on_signals().map_err(crud::Error::from)?),
    })
}
