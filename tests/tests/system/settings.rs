//! The settings file of the project: the services, a shell and the scripts must read the same from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testkit::{Folder, binary, settings};

pub(super) fn project() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().unwrap().to_path_buf()
}

/// The lines of `.env` that set something, or would if they were not commented out.
pub(super) fn lines() -> Vec<(String, bool)> {
    let text = std::fs::read_to_string(project().join(".env")).unwrap();
    let mut found = Vec::new();
    for line in text.lines() {
        let (commented, line) = line.strip_prefix('#').map_or((false, line), |rest| (true, rest));
        if let Some((name, _)) = line.split_once('=').filter(|(name, _)| is_name(name)) {
            found.push((name.to_owned(), commented));
        }
    }
    found
}

/// What a POSIX shell reads from a settings file.
fn read_by_shell(file: &Path) -> BTreeMap<String, String> {
    let output = Command::new("sh")
        .args(["-c", "set -a; . \"$1\"; env -0", "sh"])
        .arg(file)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    let mut variables = variables(output);
    variables.retain(|name, _| !["PATH", "PWD", "SHLVL", "_", "OLDPWD"].contains(&name.as_str()));
    variables
}

/// What `env -0` has printed.
fn variables(output: Output) -> BTreeMap<String, String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split('\0')
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What the scripts read from the settings file of the folder that holds them.
fn read_by_scripts(root: &Path, environment: &[(&str, &str)]) -> BTreeMap<String, String> {
    let output = Command::new("bash")
        .args(["-c", ". \"$1/scripts/lib/project.sh\"; load_settings; env -0", "bash"])
        .arg(root)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    variables(output)
}

/// The names of variables in a source file, in front of its tests: every string literal that looks like one.
fn names_in(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project().join(file)).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let literals = text.split('"').skip(1).step_by(2);
    literals.filter(|literal| is_name(&literal.replace("{prefix}", "PREFIX"))).map(str::to_owned).collect()
}

/// The text of a file, or of all files directly in a folder.
fn text_below(path: &str) -> String {
    let path = project().join(path);
    let files = std::fs::read_dir(&path).map_or_else(
        |_| vec![path.clone()],
        |entries| entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect(),
    );
    files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.contains('_')
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[test]
fn the_file_has_every_setting_of_the_sources_once_and_no_other() {
    let mut known = BTreeSet::new();
    for file in [
        "gateway/src/settings.rs",
        "gateway/src/settings/access.rs",
        "inventory/src/settings.rs",
        "billing/src/settings.rs",
        "broker/src/settings.rs",
        "crates/amqp/src/settings.rs",
        "crates/foundation/src/program.rs",
        "crates/foundation/src/service_token.rs",
    ] {
        known.extend(names_in(file));
    }
    known.extend(
        names_in("crates/crud/src/settings.rs").iter().map(|name| name.replace("{prefix}", "INVENTORY")),
    );
    for prefix in ["INVENTORY_DB", "BILLING_DB"] {
        assert!(known.remove(prefix), "{prefix} stands for the settings of a database");
        known.extend(
            names_in("crates/database/src/settings.rs").iter().map(|name| name.replace("{prefix}", prefix)),
        );
    }
    let listener = names_in("crates/foundation/src/listener.rs");
    for prefix in ["GATEWAY", "INVENTORY", "BILLING", "BROKER"] {
        known.extend(listener.iter().map(|name| name.replace("{prefix}", prefix)));
    }
    let profile = names_in("gateway/src/settings/profile.rs");
    for prefix in ["GATEWAY", "BILLING", "BROKER"] {
        known.extend(profile.iter().map(|name| name.replace("{prefix}", prefix)));
    }
    let mut found = BTreeSet::new();
    for (name, _) in lines() {
        assert!(found.insert(name.clone()), "{name} is there twice");
    }
    let missing: Vec<_> = known.difference(&found).collect();
    // What no service reads is for the virtual machines.
    let machines: String =
        ["Vagrantfile", "scripts", "scripts/lib", "scripts/provision"].map(text_below).concat();
    // Services that were added have settings of their own.
    let shell = read_by_shell(&project().join(".env"));
    let entries = shell.get("GATEWAY_SERVICES").map(String::as_str).unwrap_or_default().split(',');
    let added: Vec<_> = entries
        .filter_map(|entry| Some(entry.split_once('=')?.0.trim().to_uppercase().replace('-', "_")))
        .collect();
    let is_added = |name: &str| {
        added.iter().any(|service| name.trim_start_matches("GATEWAY_").starts_with(&format!("{service}_")))
    };
    let unknown: Vec<_> = found
        .difference(&known)
        .filter(|name| !machines.contains(name.as_str()) && !is_added(name))
        .collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}, unknown: {unknown:?}");
}

#[test]
fn shell_and_scripts_read_the_same() {
    let folder = folder_with_scripts();
    std::fs::copy(project().join(".env"), folder.path().join(".env")).unwrap();
    let shell = read_by_shell(&project().join(".env"));
    let scripts = read_by_scripts(folder.path(), &[("GATEWAY_PORT", "4000")]);
    assert!(shell.len() > 15, "{shell:?}");
    for (name, value) in &shell {
        let expected = if name == "GATEWAY_PORT" { "4000" } else { value };
        assert_eq!(scripts.get(name).map(String::as_str), Some(expected), "{name}");
    }
}

#[test]
fn the_services_understand_every_line_including_the_defaults() {
    let folder = Folder::new("settings");
    let text = std::fs::read_to_string(project().join(".env")).unwrap();
    // With every default uncommented, the values still have to be valid.
    let mut file = String::new();
    for line in text.lines() {
        let bare = line.strip_prefix('#').unwrap_or(line);
        let name = bare.split_once('=').map(|(name, _)| name);
        let sets = name.is_some_and(|name| lines().iter().any(|(known, _)| known == name));
        file.push_str(if sets { bare } else { line });
        file.push('\n');
    }
    std::fs::write(folder.path().join(".env"), file).unwrap();
    for (name, first_dependency) in
        [("api-gateway", "inventory"), ("inventory-app", "postgresql"), ("billing-app", "postgresql")]
    {
        // Nothing listens on port 1, so the check ends with the complaint about a dependency, not about a setting.
        let output = Command::new(binary(name))
            .arg("--check")
            .env_clear()
            .envs(settings([
                ("INVENTORY_URL", "http://127.0.0.1:1"),
                ("INVENTORY_DB_PORT", "1"),
                ("BILLING_DB_PORT", "1"),
                ("RABBITMQ_PORT", "1"),
            ]))
            .current_dir(folder.path())
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert_eq!(output.status.code(), Some(1), "{name}: {complaint}");
        assert!(!complaint.contains("setting "), "{name}: {complaint}");
        assert!(complaint.contains(first_dependency) || complaint.contains("amqp"), "{name}: {complaint}");
    }
}

#[test]
fn a_password_with_every_special_character_is_read_alike() {
    let folder = folder_with_scripts();
    let password = r#"a b'c"d$e\f`g#h%i=j!k&l;m|n<o>p(q)*é \"#;
    let quoted = password.replace('\'', r"'\''");
    std::fs::write(folder.path().join(".env"), format!("# a comment\nPASSWORD='{quoted}'\nEMPTY=\n"))
        .unwrap();
    let shell = read_by_shell(&folder.path().join(".env"));
    assert_eq!(shell["PASSWORD"], password);
    assert_eq!(read_by_scripts(folder.path(), &[])["PASSWORD"], password);
    assert_eq!(read_by_service(folder.path(), &[]), password);
}

#[test]
fn the_environment_wins_over_env_local_and_that_over_env() {
    let folder = folder_with_scripts();
    let write = |file: &str, value: &str| {
        std::fs::write(folder.path().join(file), format!("PASSWORD='{value}'\n")).unwrap();
    };
    write(".env", "of the file");
    assert_eq!(read_by_service(folder.path(), &[]), "of the file");
    write(".env.local", "of this machine");
    assert_eq!(read_by_service(folder.path(), &[]), "of this machine");
    assert_eq!(read_by_scripts(folder.path(), &[])["PASSWORD"], "of this machine");
    let environment = [("PASSWORD", "of the environment")];
    assert_eq!(read_by_service(folder.path(), &environment), "of the environment");
    assert_eq!(read_by_scripts(folder.path(), &environment)["PASSWORD"], "of the environment");
}

#[test]
fn a_malformed_line_stops_a_service_and_hides_its_value() {
    let folder = Folder::new("settings");
    std::fs::write(folder.path().join(".env"), "GATEWAY_PORT=0\nRABBITMQ_PASSWORD=s3cret word\n").unwrap();
    let output = service("api-gateway", folder.path(), []);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains(".env, line 2: RABBITMQ_PASSWORD cannot be read"), "{complaint}");
    assert!(!complaint.contains("s3cret") && !complaint.contains("word;"), "{complaint}");
}

#[test]
fn a_misspelt_variable_is_told_when_a_service_starts() {
    let folder = Folder::new("settings");
    for (name, misspelt, hint) in [
        ("api-gateway", "GATEWAY_PROT", "; is GATEWAY_PORT meant?"),
        ("inventory-app", "INVENTORY_DB_PASSWROD", "; is INVENTORY_DB_PASSWORD meant?"),
        ("billing-app", "BILLING_SPEED", "\n"),
        ("broker", "RABBITMQ_PASWORD", "; is RABBITMQ_PASSWORD meant?"),
    ] {
        let output = service(name, folder.path(), [(misspelt, "s3cret"), ("RABBITMQ_NODENAME", "rabbit")]);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(log.contains(&format!("there is no setting {misspelt}{hint}")), "{name}: {log}");
        assert!(!log.contains("s3cret") && !log.contains("NODENAME"), "{name}: {log}");
    }
}

/// Runs the check of a service with everything that has no default, and these.
pub(super) fn service<'a>(
    name: &str,
    folder: &Path,
    more: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Output {
    // Nothing listens on port 1.
    let given = [
        ("INVENTORY_URL", "http://127.0.0.1:1"),
        ("INVENTORY_DB_PORT", "1"),
        ("INVENTORY_DB_NAME", "n"),
        ("INVENTORY_DB_USER", "u"),
        ("INVENTORY_DB_PASSWORD", "p"),
        ("BILLING_DB_PORT", "1"),
        ("BILLING_DB_NAME", "n"),
        ("BILLING_DB_USER", "u"),
        ("BILLING_DB_PASSWORD", "p"),
        ("RABBITMQ_PORT", "1"),
        ("RABBITMQ_USER", "u"),
        ("RABBITMQ_PASSWORD", "p"),
    ];
    Command::new(binary(name))
        .arg("--check")
        .env_clear()
        .envs(given)
        .envs(more)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// A folder with the library of the scripts.
fn folder_with_scripts() -> Folder {
    let folder = Folder::new("settings");
    let library = folder.path().join("scripts/lib");
    std::fs::create_dir_all(&library).unwrap();
    for file in ["project.sh", "settings.sh", "services.sh"] {
        std::fs::copy(project().join("scripts/lib").join(file), library.join(file)).unwrap();
    }
    folder
}

/// The value of PASSWORD for a service whose working directory is below this folder.
fn read_by_service(folder: &Path, environment: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "settings::what_a_service_reads", "--nocapture"])
        .env("SETTINGS_PRINT", "PASSWORD")
        .envs(environment.iter().copied())
        .current_dir(folder.join("scripts"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let value = text.split_once("PASSWORD is ").and_then(|(_, rest)| rest.split_once(".\n"));
    assert!(value.is_some(), "{text}");
    value.unwrap().0.to_owned()
}

/// `read_by_service` runs this test in a folder of its own. Alone it has nothing to do.
#[test]
fn what_a_service_reads() {
    let Ok(name) = std::env::var("SETTINGS_PRINT") else { return };
    let value = foundation::Environment::load().unwrap().required(&name).unwrap();
    println!("{name} is {value}.");
}
