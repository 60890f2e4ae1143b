//! Damage to the files of a stopped broker, and the flags for a folder that cannot be started.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;

use crate::server::Server;
use crate::support::DURABLE;

/// The segments, oldest first.
fn segments(server: &Server) -> Vec<PathBuf> {
    let files = std::fs::read_dir(&server.folder).unwrap().map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| {
        let digits = path.file_stem().unwrap().to_str().unwrap();
        path.extension().is_some_and(|is| is == "log") && digits.parse::<u32>().is_ok()
    };
    let mut files: Vec<_> = files.filter(is_segment).collect();
    files.sort();
    files
}

fn flag(server: &Server, flag: &str) -> (bool, String) {
    let Output { status, stdout, stderr } = server.command().arg(flag).output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

/// The bodies that wait in a queue.
fn drain(server: &Server, queue: &str) -> Vec<Vec<u8>> {
    let mut client = server.client();
    std::iter::from_fn(|| client.get(1, queue, true)).map(|got| got.content.body).collect()
}

/// A record that acks the first hundred messages of queue 1.
fn forged_acks(salt: &[u8], sequence: u64) -> Vec<u8> {
    let mut payload = 1u32.to_le_bytes().to_vec();
    payload.extend([1u64.to_le_bytes(), 100u64.to_le_bytes()].concat());
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    // Sequence, segment, kind 3, and the salt; then zeros to a multiple of 8.
    let mut rest = sequence.to_le_bytes().to_vec();
    rest.extend([1, 0, 0, 0, 3, 0, 0, 0]);
    rest.extend(salt);
    rest.extend(payload);
    rest.resize(rest.len().next_multiple_of(8), 0);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), &rest);
    [&length[..], &crc.to_le_bytes(), &rest].concat()
}

#[test]
fn a_forged_record_in_a_damaged_message_is_no_record() {
    let mut server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "victim", DURABLE);
    client.declare(1, "attacker", DURABLE);
    client.publish_confirmed(1, "victim", b"kept");
    // The salt is behind the text of 8 bytes and 24 more of the first header. No client can know it, but somebody may
    // store a copy of the log in a message.
    let salt = std::fs::read(&segments(&server)[0]).unwrap()[32..40].to_vec();
    for (salt, sequence) in [(&[0x11; 8][..], 1_000_000), (&salt, 1)] {
        // One of them begins at a multiple of 8, whatever the lengths in front of it.
        for shift in 0..8 {
            let body = [&vec![b'.'; shift][..], &forged_acks(salt, sequence)].concat();
            client.publish_confirmed(1, "attacker", &body);
        }
    }
    client.publish_confirmed(1, "victim", b"last");
    server.kill();
    let path = segments(&server).pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let keys = (0..bytes.len() - 8).filter(|at| bytes[*at..].starts_with(b"attacker"));
    let keys: Vec<usize> = keys.collect();
    assert_eq!(keys.len(), 16);
    for key in keys {
        bytes[key] ^= 0x40;
    }
    std::fs::write(&path, bytes).unwrap();
    server.run();
    assert!(server.log().contains("it cannot be read from offset"), "{}", server.log());
    assert_eq!(drain(&server, "victim"), [&b"kept"[..], b"last"]);
    assert_eq!(drain(&server, "attacker"), Vec::<Vec<u8>>::new());
}

#[test]
fn a_refused_start_names_the_file_and_the_flags_that_help() {
    let mut server = Server::with(&[("BROKER_SEGMENT_BYTES", "65536")]);
    let mut client = server.publisher();
    client.declare(1, "q", DURABLE);
    for number in 0..12u8 {
        client.publish_confirmed(1, "q", &vec![number; 20_000]);
    }
    assert!(!flag(&server, "--check-log").0, "a broker is on it");
    server.kill();
    let (fine, report) = flag(&server, "--check-log");
    assert!(fine && report.contains("12 messages wait") && report.contains("queue q: 12"), "{report}");
    let path = segments(&server)[1].clone();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, vec![0x55; bytes.len()]).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let refused = server.command().output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("{name}: no record in it is valid")), "{text}");
    assert!(text.contains("--check-log") && text.contains("--salvage") && text.contains("ERROR"), "{text}");
    let (fine, report) = flag(&server, "--check-log");
    assert!(!fine && report.contains(&format!("stops the start: {name}")), "{report}");
    // Restored, everything is there.
    std::fs::write(&path, &bytes).unwrap();
    server.run();
    assert_eq!(server.client().depth(1, "q"), 12);
    server.kill();
    // Or the broker goes on without it.
    std::fs::write(&path, vec![0x55; bytes.len()]).unwrap();
    let (fine, report) = flag(&server, "--salvage");
    assert!(fine && report.contains("9 messages are in the new log"), "{report}");
    assert_eq!(
        std::fs::read(server.folder.join(format!("damaged-{name}"))).unwrap(),
        vec![0x55; bytes.len()]
    );
    server.run();
    let numbers: Vec<u8> = drain(&server, "q").iter().map(|body| body[0]).collect();
    assert_eq!(numbers, [0, 1, 2, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn a_folder_of_format_1_is_refused_by_name_and_stays_as_it_is() {
    let mut server = Server::start();
    server.kill();
    for entry in std::fs::read_dir(&server.folder).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    // The text in front of format 1's definitions, and a start record as it wrote them.
    let start = b"\x08\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0";
    std::fs::write(server.folder.join("0000000001.log"), start).unwrap();
    std::fs::write(server.folder.join("definitions"), b"AMQPDEF1").unwrap();
    let refused = server.command().output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && text.contains("its format is 1, this program knows 2"), "{text}");
    assert!(!flag(&server, "--salvage").0);
    assert_eq!(std::fs::read(server.folder.join("0000000001.log")).unwrap(), start);
}

#[test]
fn the_folder_is_its_owners_alone_whatever_it_was() {
    let mut server = Server::start();
    server.kill();
    let open = |mode: u32| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(&server.folder, open(0o755)).unwrap();
    std::fs::set_permissions(server.folder.join("definitions-1"), open(0o644)).unwrap();
    server.run();
    let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&server.folder), 0o700);
    for entry in std::fs::read_dir(&server.folder).unwrap() {
        assert_eq!(mode(&entry.as_ref().unwrap().path()), 0o600, "{entry:?}");
    }
}

#[test]
fn what_was_delivered_in_a_life_that_wrote_nothing_comes_redelivered() {
    let mut server = Server::start();
    let mut client = server.publisher();
    client.declare(1, "q", DURABLE);
    client.publish_confirmed(1, "q", b"x");
    assert!(server.stop().success());
    server.run();
    assert!(!server.client().get(1, "q", false).unwrap().redelivered);
    server.restart_after_kill();
    assert!(server.client().get(1, "q", false).unwrap().redelivered);
}
