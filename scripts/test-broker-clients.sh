#!/usr/bin/env bash
# Runs the programs of independent AMQP clients, pika (Python) and amqplib (Node.js), against a broker.
#
#   scripts/test-broker-clients.sh                          our broker, started for this
#   scripts/test-broker-clients.sh --rabbitmq               Debian's RabbitMQ, started for this
#   scripts/test-broker-clients.sh HOST PORT USER PASSWORD  a broker that runs
#
# The clients are installed into a temporary folder; python3 with venv, and node with npm, must be there.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
# shellcheck source=lib/brokers.sh
source "$here/lib/brokers.sh"
clients=$root/broker/tests/clients
work=$(mktemp -d "${TMPDIR:-/tmp}/broker-clients.XXXXXX")
trap 'stop_started; rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'pika==1.3.2'
npm install --silent --no-fund --no-audit --prefix "$work/node" 'amqplib@0.10.9' >/dev/null
cp "$clients/amqplib_client.js" "$work/node/"

case ${1:-} in
    '')
        cargo build --quiet --manifest-path "$root/Cargo.toml" --package broker --bin broker
        start_own "${CARGO_TARGET_DIR:-$root/target}/debug/broker" "$work/data"
        set -- 127.0.0.1 "$broker_port" "$broker_user" "$broker_password"
        ;;
    --rabbitmq)
        start_rabbitmq "$work/rabbitmq"
        set -- 127.0.0.1 "$broker_port" "$broker_user" "$broker_password"
        ;;
esac

"$work/venv/bin/python" "$clients/pika_client.py" "$@"
node "$work/node/amqplib_client.js" "$@"
