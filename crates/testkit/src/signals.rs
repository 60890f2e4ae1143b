//! Sends signals by a system call, because a minimal Debian has no program `kill`.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::{patience, wait_until};

/// Sends a signal by its name without `SIG`: `TERM`, `INT`, `QUIT`, `KILL`, `STOP` or `CONT`. After `STOP`, waits until
/// every thread of the process has stopped; until then one may still answer.
#[track_caller]
pub fn send_signal(pid: u32, name: &str) {
    assert!(try_send_signal(pid, name), "there is no process {pid} to send SIG{name} to");
}

/// [`send_signal`] to a process that may have ended; tells whether it was there.
#[track_caller]
pub(crate) fn try_send_signal(pid: u32, name: &str) -> bool {
    let signal = match name {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        _ => panic!("SIG{name} is not known here"),
    };
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let sent = target.is_some_and(|target| kill_process(target, signal).is_ok());
    if sent && signal == Signal::STOP {
        wait_until(patience(), &format!("process {pid} stops"), || has_stopped(pid));
    }
    sent
}

/// Whether every thread of the process is stopped, or gone.
fn has_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        matches!(fields(&stat).next(), None | Some("T" | "t" | "Z" | "X"))
    })
}

/// The processes whose parent is `pid`.
pub(crate) fn children_of(pid: u32) -> Vec<u32> {
    let parent = pid.to_string();
    let processes = fs::read_dir("/proc").expect("read /proc").flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|child| {
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            fields(&stat).nth(1) == Some(&parent)
        })
        .collect()
}

/// The fields of `/proc/PID/stat` after the name, which may contain anything: "17 (postgres) S 12 …" is state, parent, …
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split_ascii_whitespace()
}
