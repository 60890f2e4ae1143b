#!/usr/bin/env bash
# Checks the crates that the project depends on, by deny.toml: known vulnerabilities, licences, sources, duplicates.
#
#   scripts/check-dependencies.sh
#
# Uses cargo-deny where it is installed, and otherwise builds it once, into target/tools (some minutes). The advisories
# are fetched from GitHub; if that fails, it says so and checks the rest.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"

version=0.20.2
tools=${CARGO_TARGET_DIR:-$root/target}/tools

case ${1-} in
    '') ;;
    -h | --help) show_help && exit ;;
    *) fail "unknown argument $1; see scripts/check-dependencies.sh --help" ;;
esac

main() {
    cd "$root"
    need_rust
    PATH=$tools/bin:$PATH
    if ! command -v cargo-deny >/dev/null; then
        say "Building cargo-deny $version into $tools."
        # An optimised build would take much longer and check no faster.
        cargo install --quiet --locked --debug "cargo-deny@$version" --root "$tools" --target-dir "$tools/build" ||
            fail "cargo-deny could not be built"
        rm -rf -- "$tools/build"
    fi
    cargo deny --locked --log-level warn check bans licenses sources || fail "cargo-deny objects"
    if cargo deny --locked fetch db >"$tools/fetch" 2>&1; then
        cargo deny --locked --log-level warn check --disable-fetch advisories || fail "there are advisories"
    else
        say "The database of advisories could not be fetched: known vulnerabilities were NOT checked."
        tail -n 1 -- "$tools/fetch"
    fi
}

main
