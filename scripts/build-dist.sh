#!/usr/bin/env bash
# Builds the binaries for the virtual machines on a Linux host, into dist. vagrant up and vagrant provision install them
# from there. On other hosts it is not needed: there, the first virtual machine builds them.
#
#   scripts/build-dist.sh
#
# The binaries run on Debian 12 and on every system that is newer than the one they were built on. A virtual machine
# that cannot run them builds its own.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"
# The settings name further services.
load_settings
# shellcheck source=provision/binaries.sh
. "$here/provision/binaries.sh"

case ${1-} in
    '') ;;
    -h | --help)
        show_help
        exit
        ;;
    *) fail "unknown argument $1; see scripts/build-dist.sh --help" ;;
esac
[[ $(uname -s) == Linux ]] || fail "this host is no Linux; vagrant up builds the binaries in the first virtual machine"
need_rust
target=${CARGO_TARGET_DIR:-$root/target}
(cd "$root" && cargo build --release --locked --target-dir "$target" "${binaries[@]/#/--bin=}") || fail "the build failed"
put_binaries "$target/release" "${binaries[@]}"
say "In $dist:"
ls -l -- "${binaries[@]/#/$dist/}"
