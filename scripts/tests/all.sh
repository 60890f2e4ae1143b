#!/usr/bin/env bash
# Runs the tests of the scripts, in half a minute: without Rust, without PostgreSQL, without a network.
#
#   scripts/tests/all.sh
#
# Says at the end how many passed; fails when one did not.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=../lib/project.sh
. "$here/../lib/project.sh"

case ${1-} in
    '') ;;
    -h | --help) show_help && exit ;;
    *) fail "unknown argument $1; see scripts/tests/all.sh --help" ;;
esac

total=0 failed=no
for file in arguments audit new-service places read-settings run smoke supervisor; do
    output=$("$here/$file.sh") || failed=yes
    say "$output"
    [[ $output =~ ([0-9]+)\ passed ]] && total=$((total + BASH_REMATCH[1]))
done
say "$total passed"
[[ $failed == no ]]
