//! Builds the workspace's binaries.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The path of one of the workspace's binaries, built from the current sources with the profile and target folder of
/// the running test. A package's own tests use `CARGO_BIN_EXE_…` instead.
pub fn binary(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let path = FOLDER.get_or_init(build).join(name);
    assert!(path.is_file(), "the workspace has no binary {name}: {} does not exist", path.display());
    path
}

/// Builds all binaries once; returns their folder.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test");
    // A test is …/target/debug/deps/name-0123456789abcdef.
    let folder = test.ancestors().nth(2).expect("the test lies in a target folder");
    let target = folder.parent().expect("a profile's folder lies in a target folder");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", "--bins", "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(package())
        .output()
        .expect("run cargo");
    assert!(
        output.status.success(),
        "cargo build --workspace --bins failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    folder.to_path_buf()
}

/// The folder of the package whose tests run. Cargo sets it at run time; the compile-time path may be outdated.
fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}
