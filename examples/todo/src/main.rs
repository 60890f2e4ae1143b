//! `todo-app`: settings, then build, then run.

mod settings;
mod tasks;

use std::process::ExitCode;

use foundation::Shutdown;
use foundation::program::{self, Mode, Program};
use tasks::TODO;

static PROGRAM: Program = Program {
    name: TODO.name,
    version: TODO.version,
    about: "Tasks that are to be done, in PostgreSQL.\n\n\
            Reads its settings from the environment and from .env: TODO_HOST, TODO_PORT,\n\
            TODO_DB_HOST, _PORT, _NAME, _USER, _PASSWORD, and LOG_LEVEL.",
    prefixes: &["TODO_"],
    elsewhere: &["TODO_URL", "TODO_VM"],
    describe: Some(|| TODO.describe().map_err(|error| error.to_string())),
};

fn main() -> ExitCode {
    program::run(&PROGRAM, settings::settings, |settings, mode| match mode {
        Mode::Check => TODO.check(&settings),
        Mode::Serve => {
            let shutdown = Shutdown::on_signals()?;
            TODO.build(settings, shutdown)?.run()
        }
    })
}
