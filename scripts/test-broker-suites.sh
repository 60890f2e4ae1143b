#!/usr/bin/env bash
# Runs the test suites of two AMQP clients, pika (Python) and amqplib (Node.js), against a broker: everything that their
# authors expect of RabbitMQ. What fails with our broker, and why, is in docs/broker.md; anything else is an error.
#
#   scripts/test-broker-suites.sh PIKA [AMQPLIB]              our broker
#   scripts/test-broker-suites.sh --rabbitmq PIKA [AMQPLIB]   Debian's RabbitMQ; prints what fails, judges nothing
#
# PIKA is a checkout of https://github.com/pika/pika, whose packages come without tests; AMQPLIB one of
# https://github.com/amqp-node/amqplib, of which npm has a package with tests. Nothing in them is changed. The suites
# connect to port 5672 as guest, so they run in a network namespace of their own, beside whatever uses that port here.
# It takes some minutes.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"
# shellcheck source=lib/brokers.sh
. "$here/lib/brokers.sh"

amqplib_version=2.0.1
python_packages=(pytest==9.2.0 pytest-timeout==2.4.0 pytest-xdist==3.8.0 gevent==26.9.0 tornado==6.6.1 twisted==26.10.0)
# What fails with our broker.
expected_failures=(
    tests/acceptance/blocking_adapter_test.py::TestInvalidExchangeTypeRaisesConnectionClosed::test
    serverProperties
)
target=${CARGO_TARGET_DIR:-$root/target}
tools=$target/broker-suites
patience_s=1200

main() {
    local rabbitmq='' inside=''
    while (($# > 0)); do
        case $1 in
            -h | --help) show_help && return ;;
            --rabbitmq) rabbitmq=1 ;;
            --inside) inside=1 ;;
            -*) fail "unknown option $1; see scripts/test-broker-suites.sh --help" ;;
            *) break ;;
        esac
        shift
    done
    (($# == 1 || $# == 2)) || fail "the checkout of pika is needed; see scripts/test-broker-suites.sh --help"
    local pika amqplib=${2-}
    pika=$(realpath -e -- "$1")
    [[ -d $pika/tests/acceptance ]] || fail "$pika has no tests/acceptance"
    if [[ -z $inside ]]; then
        prepare
        [[ -n $amqplib ]] || amqplib=$tools/node_modules/amqplib
        amqplib=$(realpath -e -- "$amqplib")
        exec unshare --user --map-root-user --net "$here/test-broker-suites.sh" ${rabbitmq:+--rabbitmq} --inside \
            "$pika" "$amqplib"
    fi
    ip link set lo up
    work=$(mktemp -d "${TMPDIR:-/tmp}/broker-suites.XXXXXX")
    trap 'stop_started; rm -rf -- "$work"' EXIT
    start_broker "$rabbitmq"
    run_pika "$pika"
    run_amqplib "$amqplib"
    judge "$rabbitmq"
}

prepare() {
    need node npm python3-venv unshare ip
    need_rust
    (cd "$root" && cargo build --quiet --locked --package broker --bin broker)
    mkdir -p -- "$tools"
    if [[ "$(cat -- "$tools/python/packages" 2>/dev/null)" != "${python_packages[*]}" ]]; then
        say "Installing ${python_packages[*]} into $tools."
        python3 -m venv --clear "$tools/python"
        "$tools/python/bin/pip" install --quiet --disable-pip-version-check "${python_packages[@]}" ||
            fail "pip could not install them"
        printf '%s\n' "${python_packages[*]}" >"$tools/python/packages"
    fi
    if ! grep -qsF "\"version\": \"$amqplib_version\"" "$tools/node_modules/amqplib/package.json"; then
        say "Installing amqplib $amqplib_version into $tools."
        npm install --prefix "$tools" --silent --no-fund --no-audit "amqplib@$amqplib_version" claire@0.4.1 >/dev/null ||
            fail "npm could not install amqplib"
    fi
}

start_broker() {
    # shellcheck disable=SC2034 # lib/brokers.sh uses them
    fixed_port=5672 broker_host=localhost broker_user=guest broker_password=guest
    if [[ -n $1 ]]; then
        start_rabbitmq "$work/rabbitmq" || { cat -- "$work/rabbitmq/log" >&2 && fail "RabbitMQ did not start"; }
    else
        start_own "$target/debug/broker" "$work/data" ||
            { cat -- "$work/data.log" >&2 && fail "our broker did not start"; }
    fi
}

# Most of pika's tests wait for something, so more of them run at once than there are processors.
run_pika() {
    say "pika $(sed -n 's/^version = "\(.*\)"/\1/p' "$1/pyproject.toml"):"
    (cd "$1" && PYTHONDONTWRITEBYTECODE=1 timeout "$patience_s" "$tools/python/bin/python" -m pytest -q --tb=short -rfE \
        -p no:cacheprovider -n 8 --dist=loadscope --timeout=120 tests/acceptance) >"$work/pika" 2>&1 || true
    grep -E '^=+ .*(passed|failed|error).* =+$' "$work/pika" | tr -d = || { cat -- "$work/pika" && fail "pika's tests did not run"; }
    sed -n -E 's/^(FAILED|ERROR) (tests[^ ]+).*/\2/p' "$work/pika" >>"$work/failures"
}

# Node counts a file as a test, with the timeout of a test.
run_amqplib() {
    say "amqplib $(sed -n 's/.*"version": "\(.*\)".*/\1/p' "$1/package.json"):"
    (cd "$1" && NODE_PATH=$tools/node_modules timeout "$patience_s" node --test --test-timeout=60000 \
        --test-reporter=tap) >"$work/amqplib" 2>&1 || true
    grep -E '^# (tests|pass|fail|cancelled) ' "$work/amqplib" | tr -d '#\n' || { cat -- "$work/amqplib" && fail "amqplib's tests did not run"; }
    say ''
    # A suite fails with each of its tests.
    awk '/^ *not ok [0-9]+ - / { sub(/^ *not ok [0-9]+ - /, ""); name = $0 }
        /failureType:/ && name != "" { if ($0 !~ /subtestsFailed/) print name; name = "" }' "$work/amqplib" >>"$work/failures"
}

judge() {
    local failure unexpected=0
    while IFS= read -r failure; do
        if [[ -z $1 && " ${expected_failures[*]} " != *" $failure "* ]]; then
            unexpected=1
            say "not expected to fail: $failure"
        else
            say "fails: $failure"
        fi
    done <"$work/failures"
    ((unexpected == 0)) || fail "there are failures that docs/broker.md does not name"
}

main "$@"
