//! What ARCHITECTURE.md says of the code, as far as a test can check it: the files that it names exist, and the
//! boundaries that it draws are kept.

use std::path::{Path, PathBuf};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust source of the binaries and crates, relative to the project, without its unit tests.
pub(crate) fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["gateway", "inventory", "billing", "broker", "crates", "examples", "services"] {
        collect(&project().join(folder), &mut found);
    }
    assert!(found.len() > 50, "only {} sources were found", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            // What only tests and measurements use has its own rules.
            if !["tests", "target", "benches", "examples"].iter().any(|skipped| name == *skipped) {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["build.rs", "tests.rs"].iter().any(|skipped| name == *skipped)
        {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut tests = text.match_indices("#[cfg(test)]\n").map(|(at, _)| at);
            let end = tests.find(|at| text[*at..].lines().nth(1).unwrap().ends_with("mod tests {"));
            let text = text[..end.unwrap_or(text.len())].to_owned();
            let path = path.strip_prefix(project()).unwrap().display().to_string();
            found.push((path, text));
        }
    }
}

/// The lines of a source that are code.
pub(crate) fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"))
}

/// The sources for which `names` holds for a line of code, and that are in none of the places `allowed`.
#[track_caller]
fn only_in(what: &str, allowed: &[&str], names: impl Fn(&str) -> bool) {
    let sources = sources();
    let naming: Vec<_> =
        sources.iter().filter(|(_, text)| code(text).any(&names)).map(|(path, _)| path.as_str()).collect();
    assert!(!naming.is_empty(), "{what} is named nowhere: this test looks for the wrong thing");
    let elsewhere: Vec<_> =
        naming.iter().filter(|path| !allowed.iter().any(|place| path.starts_with(place))).collect();
    assert!(elsewhere.is_empty(), "{what} is named in {elsewhere:?}");
}

pub(crate) fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

#[test]
fn every_file_that_the_map_names_exists() {
    let text = std::fs::read_to_string(project().join("ARCHITECTURE.md")).unwrap();
    let mut folders = vec![project()];
    for entry in ["gateway", "inventory", "billing", "broker", "scripts", "sql", "docs", "tests"] {
        folders.push(project().join(entry));
        folders.push(project().join(entry).join("src"));
    }
    for parent in ["crates", "examples"] {
        for entry in std::fs::read_dir(project().join(parent)).unwrap().flatten() {
            folders.push(entry.path().join("src"));
        }
    }
    let mut named = 0;
    for quoted in text.split('`').skip(1).step_by(2) {
        let is_path = quoted.ends_with('/')
            || quoted
                .rsplit_once('.')
                .is_some_and(|(_, end)| ["rs", "sql", "sh", "md", "yaml", "toml", "json"].contains(&end));
        if !is_path || quoted.contains([' ', '{', '*', '…', '<']) || quoted.starts_with('/') {
            continue;
        }
        named += 1;
        // A file may be named from its crate when the sentence has named that.
        let exists = folders.iter().any(|folder| folder.join(quoted).exists());
        assert!(exists, "ARCHITECTURE.md names {quoted}, which does not exist");
    }
    assert!(named > 30, "only {named} files are named");
}

#[test]
fn only_the_amqp_crate_knows_the_asynchronous_runtime() {
    only_in("tokio", &["crates/amqp/"], |line| has_word(line, "tokio"));
    only_in("an asynchronous function", &["crates/amqp/"], |line| {
        line.contains("async fn") || line.contains(".await") || line.contains("async move")
    });
}

#[test]
fn a_service_without_events_does_not_bring_the_amqp_client() {
    for package in ["crates/crud", "crates/database", "crates/edge", "crates/foundation", "inventory"] {
        let manifest = std::fs::read_to_string(project().join(package).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
        for name in ["amqp", "amqprs", "events", "tokio"] {
            assert!(
                !dependencies.lines().any(|line| line.starts_with(&format!("{name}."))),
                "{package}: {name}"
            );
        }
    }
}

#[test]
fn only_foundation_reads_the_environment_of_the_process() {
    only_in("the environment", &["crates/foundation/src/settings.rs", "crates/testkit/"], |line| {
        line.contains("env::var") || line.contains("env::vars")
    });
}

#[test]
fn the_folders_of_the_broker_know_each_other_in_one_direction() {
    let sources = sources();
    for (folder, above) in [
        ("broker/src/codec/", &["log", "queues", "protocol", "broker"][..]),
        ("broker/src/log/", &["queues", "protocol", "broker"]),
        ("broker/src/queues/", &["protocol", "broker"]),
    ] {
        let inside: Vec<_> = sources.iter().filter(|(path, _)| path.starts_with(folder)).collect();
        assert!(
            inside.len() > 2,
            "{folder} has {} sources: this test looks in the wrong place",
            inside.len()
        );
        for (path, text) in inside {
            for above in above {
                let named = code(text).find(|line| line.contains(&format!("crate::{above}")));
                assert_eq!(named, None, "{path} names {above}");
            }
        }
    }
}

#[test]
fn unsafe_code_occurs_nowhere() {
    for (path, text) in sources() {
        assert!(!code(&text).any(|line| has_word(line, "unsafe")), "{path} has unsafe code");
    }
}
