#!/usr/bin/env bash
# Runs the programs of independent AMQP clients, pika (Python) and amqplib (Node.js), against a broker. Our own is also
# managed by RabbitMQ's rabbitmqadmin, whose session docs/broker.md shows, and scraped by Prometheus.
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
patience_s=90

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
    if [[ -n ${own-} ]]; then
        manage
        scrape
    fi
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
    own=1
}

# rabbitmqadmin's session must be the one that docs/broker.md shows.
manage() {
    # The clients before have left queues.
    stop_started
    rm -rf -- "$work/data"
    start_ours
    # shellcheck disable=SC2016 # the backquotes are those of the document
    sed -n '/^```console rabbitmqadmin$/,/^```$/{/^```/d;p}' docs/broker.md >"$work/documented"
    timeout "$patience_s" "$programs/rabbitmqadmin.sh" 127.0.0.1 "$broker_private_port" "$broker_user" \
        "$broker_password" >"$work/session" || true
    diff -u -- "$work/documented" "$work/session" || fail "rabbitmqadmin's session differs from docs/broker.md"
    say "rabbitmqadmin: $(grep -c '^\$' "$work/session") commands answer as docs/broker.md shows"
}

# A real Prometheus must take the metrics in.
scrape() {
    local port
    port=$(unused_port)
    promtool check metrics < <(curl -fsS "http://127.0.0.1:$broker_private_port/metrics") ||
        fail "promtool found something in the broker's metrics"
    printf 'scrape_configs: [{job_name: broker, scrape_interval: 1s, static_configs: [{targets: ["127.0.0.1:%s"]}]}]\n' \
        "$broker_private_port" >"$work/prometheus.yml"
    local scraper_pid
    prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/prometheus" \
        --web.listen-address="127.0.0.1:$port" 2>"$work/prometheus.log" &
    scraper_pid=$!
    local query='rabbitmq_queues_deleted_total * on (instance) group_left (rabbitmq_cluster) rabbitmq_identity_info' value=
    for _ in {1..300}; do
        value=$(curl -fsS "http://127.0.0.1:$port/api/v1/query" --data-urlencode "query=$query" 2>/dev/null |
            jq -r '.data.result[0].value[1] // empty' 2>/dev/null) || true
        [[ -z $value ]] || break
        sleep 0.1
    done
    kill "$scraper_pid"
    wait "$scraper_pid" || true
    [[ $value == 2 ]] || fail "Prometheus has '$value' deleted queues instead of 2; see its log: $(tail -n 3 "$work/prometheus.log")"
    say "Prometheus: scraped"
}

start_theirs() {
    need "${needs_rabbitmq[@]}"
    start_rabbitmq "$work/rabbitmq" || { cat -- "$work/rabbitmq/log" >&2 && fail "RabbitMQ did not start"; }
}

main "$@"
