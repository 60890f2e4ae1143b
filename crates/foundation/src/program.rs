//! What every binary does before and after its own work: flags, settings, logging, exit status.

use std::fmt::Display;
use std::process::ExitCode;

use log::LevelFilter;

use crate::{Environment, logging};

/// A binary as its user sees it.
pub struct Program {
    /// The name of the binary.
    pub name: &'static str,
    /// The version that `--version` prints.
    pub version: &'static str,
    /// What it does and which settings it reads, for `--help`.
    pub about: &'static str,
    /// How the names of its own settings begin: any other variable that begins so has no effect, and is warned of.
    pub prefixes: &'static [&'static str],
    /// Settings that begin so and belong to another program.
    pub elsewhere: &'static [&'static str],
    /// What `--describe` prints, for a program that can say what it serves; it needs no settings.
    pub describe: Option<fn() -> Result<String, String>>,
}

/// What the command line asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Serve until told to stop.
    Serve,
    /// Check settings and dependencies, then exit.
    Check,
}

/// A flag that one program has beside those of all: it does something with the settings and exits.
pub struct Command<S, E> {
    /// The flag, with its two dashes.
    pub flag: &'static str,
    /// What it does, in a few words for `--help`.
    pub about: &'static str,
    /// Returns what is printed on standard output.
    pub run: fn(S) -> Result<String, E>,
}

/// What to do with a command line.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Work(Mode),
    /// The program's own flag with this index.
    Command(usize),
    Help,
    Version,
    Describe,
    Unknown(String),
}

fn parse(arguments: impl IntoIterator<Item = String>, flags: &[&str]) -> Request {
    let mut request = Request::Work(Mode::Serve);
    for argument in arguments {
        match argument.as_str() {
            "--help" | "-h" => return Request::Help,
            "--version" | "-V" => return Request::Version,
            "--describe" => return Request::Describe,
            "--check" => request = Request::Work(Mode::Check),
            _ => match flags.iter().position(|flag| *flag == argument) {
                Some(index) => request = Request::Command(index),
                None => return Request::Unknown(argument),
            },
        }
    }
    request
}

/// Runs `work` with the settings that `read` makes of the environment, and turns its outcome into an exit status: 0 for
/// success, 1 for a failure (told on standard error in one line), 2 for a command line that makes no sense.
pub fn run<S, R: Display, E: Display>(
    program: &Program,
    read: impl FnOnce(&Environment) -> Result<S, R>,
    work: impl FnOnce(S, Mode) -> Result<(), E>,
) -> ExitCode {
    run_with(program, &[], read, work)
}

/// The same for a program that has flags of its own.
pub fn run_with<S, R: Display, E: Display>(
    program: &Program,
    commands: &[Command<S, E>],
    read: impl FnOnce(&Environment) -> Result<S, R>,
    work: impl FnOnce(S, Mode) -> Result<(), E>,
) -> ExitCode {
    let Program { name, version, about, prefixes, elsewhere, describe } = program;
    let flags: Vec<&str> = commands.iter().map(|command| command.flag).collect();
    let request = parse(std::env::args().skip(1), &flags);
    match request {
        Request::Work(_) | Request::Command(_) => {}
        Request::Help => {
            let describe =
                if describe.is_some() { "  --describe print routes, fields and SQL\n  " } else { "  " };
            let own: Vec<String> =
                commands.iter().map(|own| format!("\n  {}  {}", own.flag, own.about)).collect();
            let own = own.concat();
            say(&format!(
                "{name} {version}\n\n{about}\n\nOptions:\n  --check    check settings and dependencies, then exit\n\
                 {describe}--help     print this text\n  --version  print the version{own}"
            ));
            return ExitCode::SUCCESS;
        }
        Request::Version => {
            say(&format!("{name} {version}"));
            return ExitCode::SUCCESS;
        }
        Request::Describe => {
            return match describe.map(|describe| describe()) {
                Some(Ok(text)) => {
                    say(&text);
                    ExitCode::SUCCESS
                }
                Some(Err(error)) => fail(name, &error),
                None => {
                    complain(name, "it has nothing to describe");
                    ExitCode::from(2)
                }
            };
        }
        Request::Unknown(argument) => {
            complain(name, &format!("unknown argument {argument}; see {name} --help"));
            return ExitCode::from(2);
        }
    }
    let environment = match Environment::load() {
        Ok(environment) => environment,
        Err(error) => return fail(name, &error),
    };
    match environment.parsed("LOG_LEVEL", LevelFilter::Info) {
        Ok(level) => logging::start(level),
        Err(error) => return fail(name, &error),
    }
    let settings = match read(&environment) {
        Ok(settings) => settings,
        Err(error) => return fail(name, &error),
    };
    for warning in environment.without_effect(prefixes, elsewhere) {
        log::warn!("{warning}");
    }
    let outcome = match request {
        Request::Command(index) => (commands[index].run)(settings).map(Some),
        Request::Work(Mode::Check) => {
            let fine = format!("{name}: settings and dependencies are fine");
            work(settings, Mode::Check).map(|()| Some(fine))
        }
        _ => work(settings, Mode::Serve).map(|()| None),
    };
    match outcome {
        Ok(text) => {
            if let Some(text) = text {
                say(&text);
            }
            ExitCode::SUCCESS
        }
        Err(error) => fail(name, &error),
    }
}

fn fail(name: &str, error: &impl Display) -> ExitCode {
    complain(name, &error.to_string());
    ExitCode::FAILURE
}

#[expect(
    clippy::print_stdout,
    reason = "the answer to --help, --version and --check belongs on standard output"
)]
fn say(text: &str) {
    println!("{text}");
}

#[expect(
    clippy::print_stderr,
    reason = "the log may not have started yet, and this line is for whoever started us"
)]
fn complain(name: &str, text: &str) {
    eprintln!("{name}: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Request {
        parse(arguments.iter().map(|argument| (*argument).to_owned()), &["--one", "--two"])
    }

    #[test]
    fn the_command_line_is_understood_or_refused() {
        assert_eq!(parsed(&[]), Request::Work(Mode::Serve));
        assert_eq!(parsed(&["--check"]), Request::Work(Mode::Check));
        assert_eq!(parsed(&["--check", "--help"]), Request::Help);
        assert_eq!(parsed(&["-V"]), Request::Version);
        assert_eq!(parsed(&["--describe"]), Request::Describe);
        assert_eq!(parsed(&["--two"]), Request::Command(1));
        assert_eq!(parsed(&["--two", "--version"]), Request::Version);
        assert_eq!(parsed(&["serve"]), Request::Unknown("serve".to_owned()));
    }
}
