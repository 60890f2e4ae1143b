//! The guardian: a shell that outlives the test process and cleans up after it, however it ended.
//!
//! It reads from a pipe which processes and folders to watch. When the test process ends, the pipe closes, and the
//! guardian stops those processes and removes those folders. It also stops the shared PostgreSQL at a normal end,
//! because Rust never drops statics.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

const SCRIPT: &str = r#"
trap '' INT TERM HUP
processes=' '
folders=''
newline='
'
while read -r verb value; do
    case $verb in
        watch) processes="$processes$value " ;;
        forget)
            case $processes in
                *" $value "*) processes="${processes%%" $value "*} ${processes#*" $value "}" ;;
            esac
            ;;
        folder) folders="$folders$value$newline" ;;
    esac
done
for process in $processes; do
    kill -"${process%:*}" "${process#*:}"
    kill -CONT "${process#*:}"
done
# PostgreSQL ends its backends itself when it is asked to; everything else is gone already.
for process in $processes; do
    patience=100
    while kill -0 "${process#*:}" && [ "$patience" -gt 0 ]; do
        sleep 0.1
        patience=$((patience - 1))
    done
    kill -KILL "${process#*:}"
done
printf %s "$folders" | while IFS= read -r folder; do rm -rf "$folder"; done
"#;

/// How the guardian ends a process that outlived the test.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// SIGKILL.
    Kill,
    /// SIGQUIT, which is PostgreSQL's immediate shutdown; SIGKILL if that takes too long.
    Quit,
}

impl End {
    fn entry(self, pid: u32) -> String {
        match self {
            Self::Kill => format!("KILL:{pid}"),
            Self::Quit => format!("QUIT:{pid}"),
        }
    }
}

/// Makes the guardian end the process when the test process has ended.
pub(crate) fn watch(pid: u32, end: End) {
    tell(&format!("watch {}\n", end.entry(pid)));
}

/// Undoes [`watch`] for a process that has ended: once it is reaped, another process may get its id.
pub(crate) fn forget(pid: u32, end: End) {
    tell(&format!("forget {}\n", end.entry(pid)));
}

/// Makes the guardian remove the folder when the test process has ended.
pub(crate) fn watch_folder(path: &Path) {
    tell(&format!("folder {}\n", path.display()));
}

fn tell(line: &str) {
    static PIPE: OnceLock<Mutex<ChildStdin>> = OnceLock::new();
    let pipe = PIPE.get_or_init(|| Mutex::new(start()));
    let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
    pipe.write_all(line.as_bytes()).expect("tell the guardian");
}

#[expect(clippy::zombie_processes, reason = "it ends after this process, by design")]
fn start() -> ChildStdin {
    let mut guardian = Command::new("sh")
        .args(["-c", SCRIPT, "guardian"])
        .stdin(Stdio::piped())
        // A test runner waits until everybody has closed its pipes.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C in a terminal reaches the test, not its guardian.
        .process_group(0)
        .spawn()
        .expect("start the guardian, a POSIX shell");
    guardian.stdin.take().expect("the guardian's pipe")
}
