//! `@NAME@-app`: settings, then build, then run.

mod resource;
mod settings;

use std::process::ExitCode;

use foundation::Shutdown;
use foundation::program::{self, Mode, Program};
use resource::SERVICE;

static PROGRAM: Program = Program {
    name: SERVICE.name,
    version: SERVICE.version,
    about: "@ABOUT@\n\n\
            Reads its settings from the environment and from .env: @VARIABLE@_HOST, @VARIABLE@_PORT,\n\
            @VARIABLE@_DB_HOST, _PORT, _NAME, _USER, _PASSWORD, and LOG_LEVEL.",
    prefixes: &["@VARIABLE@_"],
    elsewhere: &["@VARIABLE@_URL", "@VARIABLE@_VM"],
    describe: Some(|| SERVICE.describe().map_err(|error| error.to_string())),
};

fn main() -> ExitCode {
    program::run(&PROGRAM, settings::settings, |settings, mode| match mode {
        Mode::Check => SERVICE.check(&settings),
        Mode::Serve => {
            let shutdown = Shutdown::on_signals()?;
            SERVICE.build(settings, shutdown)?.run()
        }
    })
}
