//! The ranges of numbers that the scripts check before they start anything: the services must have the same.

use std::collections::BTreeMap;

use testkit::Folder;

use crate::settings::{lines, project, service};

/// A row of the table.
struct Range {
    pattern: String,
    min: u64,
    max: u64,
}

fn table() -> Vec<Range> {
    let text = std::fs::read_to_string(project().join("scripts/lib/ranges.txt")).unwrap();
    let rows = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|row| {
        let mut words = row.split_whitespace();
        let pattern = words.next().unwrap().to_owned();
        let mut number = || words.next().unwrap().parse().unwrap();
        Range { pattern, min: number(), max: number() }
    })
    .collect()
}

/// Whether the name matches the pattern, which has at most one `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => {
            name.strip_prefix(start).is_some_and(|rest| rest.len() > end.len() && rest.ends_with(end))
        }
        None => pattern == name,
    }
}

/// The service that reads a setting; none reads those of the virtual machines.
fn reader(name: &str) -> Option<&'static str> {
    match name.split_once('_')?.0 {
        "GATEWAY" => Some("api-gateway"),
        "INVENTORY" => Some("inventory-app"),
        "BILLING" => Some("billing-app"),
        "BROKER" => Some("broker"),
        "RABBITMQ" if name == "RABBITMQ_PORT" => Some("api-gateway"),
        _ => None,
    }
}

/// The names of all settings of the services, in `.env` and beyond it.
fn names() -> impl Iterator<Item = (String, &'static str)> {
    let names = lines().into_iter().map(|(name, _)| name).chain(["GATEWAY_TODO_BODY_MAX_BYTES".to_owned()]);
    names.filter_map(|name| reader(&name).map(|reader| (name, reader)))
}

/// What the check of a service says about these settings.
fn complaint(reader: &str, given: &BTreeMap<String, String>) -> String {
    let folder = Folder::new("ranges");
    let more = given.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    // With these, the gateway reads the settings of a further service, and those of its outbox.
    let outbox = folder.path().join("outbox");
    let always = [
        ("GATEWAY_SERVICES", "todo=/todo"),
        ("TODO_URL", "http://127.0.0.1:1"),
        ("GATEWAY_OUTBOX_DIR", outbox.to_str().unwrap()),
    ];
    let output = service(reader, folder.path(), always.into_iter().chain(more));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_services_refuse_what_is_outside_the_table_and_take_what_is_inside() {
    let table = table();
    let mut used = vec![false; table.len()];
    let (mut smallest, mut largest) = (BTreeMap::new(), BTreeMap::new());
    for (name, reader) in names() {
        let Some(index) = table.iter().position(|range| matches(&range.pattern, &name)) else { continue };
        used[index] = true;
        let range = &table[index];
        smallest.entry(reader).or_insert_with(BTreeMap::new).insert(name.clone(), range.min.to_string());
        largest.entry(reader).or_insert_with(BTreeMap::new).insert(name.clone(), range.max.to_string());
        // The services take port 0, which the scripts do not.
        let below = if range.pattern == "*_PORT" { None } else { range.min.checked_sub(1) };
        for outside in below.into_iter().chain([range.max + 1]) {
            let complaint = complaint(reader, &BTreeMap::from([(name.clone(), outside.to_string())]));
            let expected = format!("setting {name}: ");
            assert!(complaint.contains(&expected), "{name}={outside}: {complaint}");
        }
    }
    for (reader, given) in smallest.into_iter().chain(largest) {
        let complaint = complaint(reader, &given);
        assert!(!complaint.contains("setting "), "{reader} with {given:?}: {complaint}");
    }
    for (range, used) in table.iter().zip(used) {
        let of_machines = ["VM_", "RABBITMQ_"].iter().any(|prefix| range.pattern.starts_with(prefix));
        assert!(used || of_machines, "no setting matches {}", range.pattern);
    }
}

#[test]
fn the_table_has_every_number() {
    let table = table();
    for (name, reader) in names() {
        // A host may be this, and a number may not.
        let given = BTreeMap::from([(name.clone(), "127.0.0.1".to_owned())]);
        let is_number = complaint(reader, &given).contains(&format!("setting {name}: invalid digit"));
        let is_known = table.iter().any(|range| matches(&range.pattern, &name));
        assert_eq!(is_number, is_known, "{name}");
    }
}
