#!/usr/bin/env bash
# Kills the broker with SIGKILL under load, again and again, and checks that nothing it confirmed is lost or reordered.
#
#   scripts/torture.sh [CYCLES [SECONDS]]   at most so many kills (1000) within so much time (600)
#
# Prints cycles, messages, lost, duplicated (redelivered after a kill, which is allowed) and reordered; the exit status
# is 0 only if nothing was lost or reordered. TORTURE_PROFILE=release tortures the release build.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"

case ${1-} in
    -h | --help)
        show_help
        exit
        ;;
    -*) fail "unknown option $1; see scripts/torture.sh --help" ;;
esac
(($# <= 2)) || fail "too many arguments; see scripts/torture.sh --help"
cycles=${1:-1000}
seconds=${2:-600}
[[ $cycles =~ ^[0-9]+$ && $seconds =~ ^[0-9]+$ ]] || fail "CYCLES and SECONDS are numbers; see scripts/torture.sh --help"
profile=${TORTURE_PROFILE:-dev}
target=${CARGO_TARGET_DIR:-$root/target}
folder=$(mktemp -d "${TMPDIR:-/tmp}/torture.XXXXXX")
trap 'rm -rf "$folder"' EXIT

cd "$root"
cargo build --quiet --profile "$profile" --package broker --bin broker --example torture
built=$target/${profile/dev/debug}
"$built/examples/torture" "$built/broker" "$folder/data" "$cycles" "$seconds"
