#!/usr/bin/env bash
# Runs the programs of independent AMQP clients, pika (Python) and amqplib (Node.js), against a broker.
#
#   scripts/test-broker-clients.sh                          our broker, started for this
#   scripts/test-broker-clients.sh --rabbitmq               Debian's RabbitMQ, started for this
#   scripts/test-broker-clients.sh HOST PORT USER PASSWORD  a broker that runs
#
# What is missing is installed: Debian packages by apt-get, the clients into target/broker-clients.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"
# shellcheck source=lib/brokers.sh
. "$here/lib/brokers.sh"

pika_version=1.3.2
amqplib_version=0.10.9
target=${CARGO_TARGET_DIR:-$root/target}
tools=$target/broker-clients
programs=$root/broker/tests/clients
# A client that hangs counts as failed.
patience_s=60

main() {
    cd "$root"
    case ${1-} in
        -h | --help) show_help && return ;;
        '' | --rabbitmq) (($# <= 1)) || fail "too many arguments; see scripts/test-broker-clients.sh --help" ;;
        -*) fail "unknown option $1; see scripts/test-broker-clients.sh --help" ;;
        *) (($# == 4)) || fail "HOST PORT USER PASSWORD are needed; see scripts/test-broker-clients.sh --help" ;;
    esac
    install_clients
    work=$(mktemp -d "${TMPDIR:-/tmp}/broker-clients.XXXXXX")
    trap 'stop_started; rm -rf -- "$work"' EXIT
    case ${1-} in
        '') start_ours ;;
        --rabbitmq) start_theirs ;;
    esac
    (($# == 4)) || set -- 127.0.0.1 "$broker_port" "$broker_user" "$broker_password"
    timeout "$patience_s" "$tools/python/bin/python" "$programs/pika_client.py" "$@" || fail "pika's programs failed"
    NODE_PATH=$tools/node_modules timeout "$patience_s" node "$programs/amqplib_client.js" "$@" ||
        fail "amqplib's programs failed"
}

install_clients() {
    need "${needs_clients[@]}"
    mkdir -p -- "$tools"
    if ! "$tools/python/bin/python" -c "import pika; assert pika.__version__ == '$pika_version'" 2>/dev/null; then
        say "Installing pika $pika_version into $tools."
        python3 -m venv --clear "$tools/python"
        "$tools/python/bin/pip" install --quiet --disable-pip-version-check "pika==$pika_version" ||
            fail "pip could not install pika"
    fi
    if ! grep -qsF "\"version\": \"$amqplib_version\"" "$tools/node_modules/amqplib/package.json"; then
        say "Installing amqplib $amqplib_version into $tools."
        npm install --prefix "$tools" --silent --no-fund --no-audit "amqplib@$amqplib_version" >/dev/null ||
            fail "npm could not install amqplib"
    fi
}

start_ours() {
    need_rust
    cargo build --quiet --locked --package broker --bin broker
    start_own "$target/debug/broker" "$work/data" || { cat -- "$work/data.log" >&2 && fail "our broker did not start"; }
}

start_theirs() {
    need "${needs_rabbitmq[@]}"
    start_rabbitmq "$work/rabbitmq" || { cat -- "$work/rabbitmq/log" >&2 && fail "RabbitMQ did not start"; }
}

main "$@"
