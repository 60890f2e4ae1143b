//! What ARCHITECTURE.md says of the code, as far as a test can check it: the files that it names exist, and the
//! boundaries that it draws are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust source of the binaries and crates, relative to the project, without its unit tests.
fn sources() -> Vec<(String, String)> {
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
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "build.rs" {
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
            let path = path.strip_prefix(project()).unwrap().display().to_string();
            found.push((path, text));
        }
    }
}

/// The lines of a source that are code.
fn code(text: &str) -> impl Iterator<Item = &str> {
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

fn has_word(line: &str, word: &str) -> bool {
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

/// A path in the crate, such as `log::record`.
type ModulePath = Vec<String>;

/// The module of a file in `folder`; that of `mod.rs` and of the crate's root is the folder's.
fn module(folder: &str, path: &str) -> ModulePath {
    let inside = path.strip_prefix(folder).unwrap().trim_end_matches(".rs");
    inside.split('/').filter(|name| !["mod", "lib"].contains(name)).map(str::to_owned).collect()
}

/// The paths that begin with `crate` or `super` in a source, those in braces spelt out.
fn named_paths(text: &str) -> Vec<ModulePath> {
    let text = code(text).collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in text.match_indices(root) {
            let inner = text[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
            if !inner {
                take_paths(&text[at..], &ModulePath::new(), &mut found);
            }
        }
    }
    found
}

/// Takes a path, or a list of them in braces, from the front of a text, and returns the rest.
fn take_paths<'a>(text: &'a str, prefix: &ModulePath, found: &mut Vec<ModulePath>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut list) = text.strip_prefix('{') {
        loop {
            list = take_paths(list, prefix, found);
            let end = list.find([',', '}']).expect("a list ends");
            let is_last = list[end..].starts_with('}');
            list = &list[end + 1..];
            if is_last {
                return list;
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        // Behind the last comma of a list, or a star.
        return rest;
    }
    let mut path = prefix.clone();
    path.push(name.to_owned());
    if let Some(rest) = rest.strip_prefix("::") {
        return take_paths(rest, &path, found);
    }
    found.push(path);
    rest
}

/// Which module a path in `module` leads to: the longest one that is known.
fn resolve(module: &ModulePath, path: &ModulePath, known: &BTreeSet<ModulePath>) -> ModulePath {
    let ups = path.iter().take_while(|name| *name == "super").count();
    let mut whole =
        if ups == 0 { ModulePath::new() } else { module[..module.len().saturating_sub(ups)].to_vec() };
    whole.extend(path[ups.max(1)..].iter().cloned());
    while !known.contains(&whole) {
        whole.pop();
    }
    whole
}

/// The files of a crate that use each other in circles, each with those of them that it uses.
fn circles(folder: &str, sources: &[(String, String)]) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
    let files: Vec<_> = sources.iter().filter(|(path, _)| path.starts_with(folder)).collect();
    let known: BTreeSet<_> = files.iter().map(|(path, _)| module(folder, path)).collect();
    // The files in a folder that has the name of a file are parts of that.
    let whole = |module: ModulePath| {
        let is_file = |count: &usize| {
            let path = format!("{folder}{}.rs", module[..*count].join("/"));
            sources.iter().any(|(known, _)| *known == path)
        };
        let count = (1..module.len()).find(is_file).unwrap_or(module.len());
        module[..count].to_vec()
    };
    let mut graph: BTreeMap<ModulePath, BTreeSet<ModulePath>> = BTreeMap::new();
    for (path, text) in files {
        let module = module(folder, path);
        let used = named_paths(text).into_iter().map(|path| whole(resolve(&module, &path, &known)));
        graph.entry(whole(module.clone())).or_default().extend(used);
    }
    for (module, used) in &mut graph {
        used.remove(module);
    }
    // What uses nothing that is left, or is used by nothing that is left, is in no circle.
    loop {
        let before = graph.len();
        let left: BTreeSet<_> = graph.keys().cloned().collect();
        for used in graph.values_mut() {
            used.retain(|module| left.contains(module));
        }
        let targets: BTreeSet<_> = graph.values().flatten().cloned().collect();
        graph.retain(|module, used| !used.is_empty() && targets.contains(module));
        if graph.len() == before {
            return graph;
        }
    }
}

#[test]
fn no_files_of_the_broker_use_each_other_in_a_circle() {
    let found = circles("broker/src/", &sources());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn circles_of_files_are_found() {
    let circles = |files: &[(&str, &str)]| {
        let owned = |(path, text): &(&str, &str)| (format!("c/{path}"), (*text).to_owned());
        circles("c/", &files.iter().map(owned).collect::<Vec<_>>()).len()
    };
    let (lib, lower) = (("lib.rs", "use crate::a::{b::B, c};"), ("a/d.rs", "use std::fmt;"));
    assert_eq!(circles(&[lib, ("a/b.rs", "use super::d::D;"), lower, ("a/c.rs", "crate::a::d::f()")]), 0);
    let lists = "use crate::{\n    a::d::Y,\n    a::{d, c::{C as E, f}},\n};";
    assert_eq!(circles(&[lib, ("a/b.rs", lists), lower, ("a/c.rs", "fn f() -> super::b::B {}")]), 2);
    assert_eq!(circles(&[lib, ("a/b.rs", "use crate::Root;")]), 2);
    assert_eq!(circles(&[lib, ("a/b.rs", "// use crate::a::c::C;"), ("a/c.rs", "use crate::a::b::B;")]), 0);
    // Parts of one file may name each other, and name others together.
    assert_eq!(circles(&[("a.rs", "use crate::a::b::B;"), ("a/b.rs", "use super::A;")]), 0);
    assert_eq!(circles(&[("a.rs", ""), ("a/b.rs", "use crate::c::C;"), ("c.rs", "use crate::a::A;")]), 2);
}

#[test]
fn unsafe_code_occurs_nowhere() {
    for (path, text) in sources() {
        assert!(!code(&text).any(|line| has_word(line, "unsafe")), "{path} has unsafe code");
    }
}
