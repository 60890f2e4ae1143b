//! What every binary does before and after its own work: flags, settings, logging, exit status.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use log::LevelFilter;

use crate::{Environment, logging};

/// How a binary presents itself on the command line.
pub struct Program {
    /// The name of the binary.
    pub name: &'static str,
    /// The version that `--version` prints.
    pub version: &'static str,
    /// What it does and which settings it reads, for `--help`.
    pub about: &'static str,
    /// Prefixes of its own settings. A variable with such a prefix that is no setting is warned about.
    pub prefixes: &'static [&'static str],
    /// Settings with such a prefix that belong to another program.
    pub elsewhere: &'static [&'static str],
    /// What `--describe` prints, for a program that has this flag; it needs no settings.
    pub describe: Option<fn() -> Result<String, String>>,
}

/// What the program shall do with its settings.
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

/// A flag with arguments that one program has beside those of all: it needs no settings and exits. The program's own
/// text for `--help` describes it.
pub struct Tool {
    /// The flag, with its two dashes.
    pub flag: &'static str,
    /// The names of its arguments.
    pub arguments: &'static [&'static str],
    /// Gets as many arguments as have names; returns what is printed on standard output.
    pub run: fn(&[String]) -> Result<String, String>,
}

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
enum CommandLine {
    Work(Mode),
    /// The program's own flag with this index.
    Command(usize),
    Help,
    Version,
    Describe,
    Unknown(String),
}

fn parse(arguments: impl IntoIterator<Item = String>, flags: &[&str]) -> CommandLine {
    let mut command_line = CommandLine::Work(Mode::Serve);
    for argument in arguments {
        match argument.as_str() {
            "--help" | "-h" => return CommandLine::Help,
            "--version" | "-V" => return CommandLine::Version,
            "--describe" => return CommandLine::Describe,
            "--check" => command_line = CommandLine::Work(Mode::Check),
            _ => match flags.iter().position(|flag| *flag == argument) {
                Some(index) => command_line = CommandLine::Command(index),
                None => return CommandLine::Unknown(argument),
            },
        }
    }
    command_line
}

/// Runs `work` with the settings that `read` returns. The exit status is 0 for success, 1 for a failure (one line on
/// standard error), 2 for an invalid command line.
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
    let command_line = parse(std::env::args().skip(1), &flags);
    match command_line {
        CommandLine::Work(_) | CommandLine::Command(_) => {}
        CommandLine::Help => {
            let describe =
                if describe.is_some() { "  --describe print routes, fields and SQL\n  " } else { "  " };
            let own: Vec<String> =
                commands.iter().map(|own| format!("\n  {}  {}", own.flag, own.about)).collect();
            let own = own.concat();
            return say(
                name,
                &format!(
                    "{name} {version}\n\n{about}\n\nOptions:\n  --check    check settings and dependencies, then exit\n\
                 {describe}--help     print this text\n  --version  print the version{own}"
                ),
            );
        }
        CommandLine::Version => return say(name, &format!("{name} {version}")),
        CommandLine::Describe => {
            return match describe.map(|describe| describe()) {
                Some(Ok(text)) => say(name, text.trim_end()),
                Some(Err(error)) => fail(name, &error),
                None => {
                    complain(name, "it has nothing to describe");
                    ExitCode::from(2)
                }
            };
        }
        CommandLine::Unknown(argument) => {
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
    let outcome = match command_line {
        CommandLine::Command(index) => (commands[index].run)(settings).map(Some),
        CommandLine::Work(Mode::Check) => {
            let fine = format!("{name}: settings and dependencies are fine");
            work(settings, Mode::Check).map(|()| Some(fine))
        }
        _ => work(settings, Mode::Serve).map(|()| None),
    };
    match outcome {
        Ok(Some(text)) => say(name, &text),
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => fail(name, &error),
    }
}

/// Runs `tool` if the command line asks for it; else returns `None`, and nothing was done.
pub fn run_tool(program: &Program, tool: &Tool) -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != tool.flag {
        return None;
    }
    let arguments: Vec<String> = arguments.collect();
    if arguments.len() != tool.arguments.len() {
        complain(
            program.name,
            &format!("usage: {} {} {}", program.name, tool.flag, tool.arguments.join(" ")),
        );
        return Some(ExitCode::from(2));
    }
    Some(match (tool.run)(&arguments) {
        Ok(text) => say(program.name, &text),
        Err(error) => fail(program.name, &error),
    })
}

fn fail(name: &str, error: &impl Display) -> ExitCode {
    complain(name, &error.to_string());
    ExitCode::FAILURE
}

/// Prints an answer on standard output. A reader that has seen enough, such as `head`, is no failure.
fn say(name: &str, text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            fail(name, &format!("print the answer: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
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

    fn parsed(arguments: &[&str]) -> CommandLine {
        parse(arguments.iter().map(|argument| (*argument).to_owned()), &["--one", "--two"])
    }

    #[test]
    fn the_command_line_is_understood_or_refused() {
        assert_eq!(parsed(&[]), CommandLine::Work(Mode::Serve));
        assert_eq!(parsed(&["--check"]), CommandLine::Work(Mode::Check));
        assert_eq!(parsed(&["--check", "--help"]), CommandLine::Help);
        assert_eq!(parsed(&["-V"]), CommandLine::Version);
        assert_eq!(parsed(&["--describe"]), CommandLine::Describe);
        assert_eq!(parsed(&["--two"]), CommandLine::Command(1));
        assert_eq!(parsed(&["--two", "--version"]), CommandLine::Version);
        assert_eq!(parsed(&["serve"]), CommandLine::Unknown("serve".to_owned()));
    }
}
