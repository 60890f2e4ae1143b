//! The binary: settings, then the broker, then an exit status.

use std::process::ExitCode;

use broker::{Error, Settings};
use foundation::Shutdown;
use foundation::program::{self, Command, Mode, Program};

const ABOUT: &str = "An embedded AMQP 0-9-1 broker: durable work queues for one machine.

Settings (environment, or the nearest .env):
  BROKER_HOST, BROKER_PORT     where to listen (127.0.0.1, 5672; several hosts comma-separated, as in
                               127.0.0.1,::1; port 0: any free one)
  PRIVATE_HOST, BROKER_PRIVATE_PORT  where /health, /ready, /metrics and the management API are
                               (127.0.0.1, 9304)
  BROKER_DATA_DIR              the folder for queues and messages (.data/broker)
  RABBITMQ_USER, RABBITMQ_PASSWORD  the first user
  BROKER_USERS                 names of further users, comma-separated; the password of NAME is in
                               BROKER_PASSWORD_NAME
  BROKER_USERS_FILE            a file of users with hashed passwords, in the format of RabbitMQ's definitions
  limits                       BROKER_MAX_CONNECTIONS, BROKER_HANDSHAKE_TIMEOUT_MS, BROKER_SEND_TIMEOUT_MS,
                               BROKER_CONSUMER_TIMEOUT_MS, BROKER_SEGMENT_BYTES, BROKER_DISK_FREE_MIN_BYTES
  LOG_LEVEL                    error, warn, info, debug (info)";

fn main() -> ExitCode {
    end_with_any_thread();
    let program = Program {
        name: "broker",
        version: env!("CARGO_PKG_VERSION"),
        about: ABOUT,
        prefixes: &["BROKER_"],
        elsewhere: &["BROKER_OWNER", "BROKER_CONTACT", "BROKER_REPOSITORY"],
        describe: None,
    };
    let commands = [
        Command {
            flag: "--check-log",
            about: "read the data folder, change nothing, report what cannot be read, then exit",
            run: |settings| broker::check_log(&settings),
        },
        Command {
            flag: "--salvage",
            about: "start a log from what can be read in the data folder, keep the rest aside, then exit",
            run: |settings| broker::salvage_log(&settings),
        },
    ];
    program::run_with(&program, &commands, Settings::read, work)
}

/// A thread that panics would leave others waiting for it: the process ends instead, and what started it starts it again.
fn end_with_any_thread() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn work(settings: Settings, mode: Mode) -> Result<(), Error> {
    match mode {
        // The data folder may be in use by the running broker, so a check leaves it alone.
        Mode::Check => Ok(()),
        Mode::Serve => broker::build(settings, Shutdown::on_signals()?)?.run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// Set in the process that is to end.
    const PANICS: &str = "BROKER_TEST_PANICS";

    #[test]
    fn a_panic_in_any_thread_ends_the_process_with_a_message() {
        if std::env::var_os(PANICS).is_some() {
            end_with_any_thread();
            let thread = std::thread::Builder::new().name("housekeeper".to_owned());
            let thread = thread.spawn(|| panic!("the folder is upside down")).unwrap();
            // Without the hook only the thread ends, and this process lives on.
            assert!(thread.join().is_err());
            return;
        }
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args([
            "tests::a_panic_in_any_thread_ends_the_process_with_a_message",
            "--exact",
            "--nocapture",
        ]);
        let ended = again.env(PANICS, "1").output().unwrap();
        let message = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.signal(), Some(rustix::process::Signal::ABORT.as_raw()), "{ended:?}");
        for part in ["'housekeeper'", "panicked at", "the folder is upside down"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
}
