#!/usr/bin/env bash
# Checks the documentation against the running system: nothing in it may be stale.
#
#   scripts/check-docs.sh            everything
#   scripts/check-docs.sh --static   only what needs no running system: the linters
#
# OpenAPI: Redocly's linter, schemathesis with all checks, and three clients made from it. AsyncAPI: its own parser, and
# the messages on the wire. Postman: the collections, run by newman. Metrics and alerts: promtool. Console and /docs: a walk
# in Chromium and axe, with pictures in target/docs-tools/pictures. Each platform that is started is fresh, on free ports, and removed at the end.
# What is missing is installed: Debian packages by apt-get, everything else into target/docs-tools.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"

schemathesis_version=4.32.5
openapi_python_client_version=0.29.1
tools=${CARGO_TARGET_DIR:-$root/target}/docs-tools
pictures=$tools/pictures
checks=$root/scripts/docs
collection=$root/docs/crud-master.postman_collection.json
faults=$root/docs/crud-master-faults.postman_collection.json

main() {
    cd "$root"
    case ${1-} in
        '') install_tools && lint && check_running ;;
        --static) install_tools && lint ;;
        -h | --help) show_help ;;
        # For check_running, which calls these beside a running platform.
        --while-billing-is-down) while_billing_is_down ;;
        --with-billing) with_billing ;;
        --console) console "$2" ;;
        --further-service) further_service ;;
        --faults) step "the collection of faults: $2" collection "$faults" "$2" ;;
        --records) records "$2" ;;
        --conformance) conformance ;;
        *) fail "unknown option $1; see scripts/check-docs.sh --help" ;;
    esac
}

# step NAME COMMAND…: runs one check; shows its output if it fails.
step() {
    local name=$1 output=$tools/output.$BASHPID
    shift
    if "$@" >"$output" 2>&1; then
        say "  ok      $name: $(grep '[[:alnum:]]' "$output" | tail -n 1)"
        rm -f -- "$output"
    else
        cat -- "$output" >&2
        rm -f -- "$output"
        fail "this failed: $name"
    fi
}

install_tools() {
    need "${needs_docs[@]}"
    mkdir -p -- "$tools"
    if ! cmp -s -- "$checks/package-lock.json" "$tools/installed-lock.json"; then
        say "Installing the tools of $checks/package.json into $tools."
        cp -- "$checks/package.json" "$checks/package-lock.json" "$tools/"
        (cd "$tools" && npm ci --ignore-scripts --no-audit --no-fund --silent) || fail "npm could not install the tools"
        cp -- "$checks/package-lock.json" "$tools/installed-lock.json"
    fi
    local packages=("schemathesis==$schemathesis_version" "openapi-python-client==$openapi_python_client_version")
    if [[ $(cat "$tools/python/installed" 2>/dev/null) != "${packages[*]}" ]]; then
        say "Installing ${packages[*]} into $tools/python."
        python3 -m venv --clear "$tools/python"
        "$tools/python/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}" ||
            fail "pip could not install ${packages[*]}"
        say "${packages[*]}" >"$tools/python/installed"
    fi
}

in_node() { NODE_PATH=$tools/node_modules "$@"; }

lint() {
    say "== documents"
    step "OpenAPI is well formed" in_node node "$checks/openapi.js" docs/openapi.yaml
    step "AsyncAPI is well formed" in_node node "$checks/asyncapi.js" docs/asyncapi.yaml
    step "the collections have every endpoint" in_node node "$checks/endpoints.js" docs/openapi.yaml "$collection" "$faults"
    step "the alerts" check_alerts
}

# The rules are valid, each is silent and fires when it shall, and each has an entry in the runbook.
check_alerts() {
    local alert
    promtool check rules docs/alerts.yaml || return
    promtool test rules docs/alerts.test.yaml || return
    while IFS= read -r alert; do
        grep -qx "### $alert" docs/operations.md || { say "docs/operations.md has no entry for $alert" && return 1; }
        grep -q "runbook: docs/operations.md#${alert,,}\$" docs/alerts.yaml || { say "$alert names no entry" && return 1; }
        grep -q "name: $alert\>" docs/alerts.test.yaml || { say "$alert has no test" && return 1; }
    done < <(sed -n 's/^ *- alert: //p' docs/alerts.yaml)
    say "all alerts are tested and have an entry"
}

# beside_platform STATE COMMAND [STATE COMMAND]…
beside_platform() {
    cargo run --quiet --locked --package system-tests --example with_platform -- "$@" ||
        fail "the checks beside a running platform failed"
}

check_running() {
    need_rust
    local self="scripts/check-docs.sh"
    say "== a platform whose billing is down, and comes back"
    beside_platform no-billing "$self --while-billing-is-down" running "$self --with-billing"
    say "== a platform of which one part after the other is down"
    beside_platform no-billing "$self --console no-billing" \
        no-inventory "$self --faults 'Inventory is down' && $self --console no-inventory && $self --records no-inventory" \
        frozen-inventory "$self --faults 'Inventory does not answer' && $self --console frozen-inventory" \
        wrong-inventory "$self --faults 'Inventory is something else'" \
        no-database "$self --console no-database" \
        no-broker "$self --faults 'The broker is down' && $self --console no-broker" \
        one-connection "$self --faults 'Too many connections'" \
        with-tokens "$self --faults Tokens" \
        further-service "$self --further-service"
    say "== a platform as it should be"
    beside_platform running "$self --conformance"
}

# collection FILE [FOLDER]…
collection() { in_node node "$checks/collection.js" "$@"; }

# The first run leaves the collection's three orders and changes nothing else; the second changes nothing at all.
healthy_collection() {
    in_node node "$checks/data.js" >"$tools/before.json" || return
    collection "$collection" || return
    in_node node "$checks/data.js" "$tools/before.json" 3 >"$tools/after.json" || return
    collection "$collection" || return
    in_node node "$checks/data.js" "$tools/after.json" 0 >"$tools/before.json" || return
    say "every assertion holds, and the data is as before"
}

while_billing_is_down() {
    # This comes first because it needs an empty queue.
    step "messages on the wire" in_node node "$checks/messages.js" waiting
    # A gateway that has just started has no report from billing, so it calls billing silent, too.
    step "the collection, while billing is down" collection "$faults" "1. Billing is stopped"
}

with_billing() {
    step "the collection, once billing is back" collection "$faults" "2. Billing runs again"
    step "dead letters and reports on the wire" in_node node "$checks/messages.js" settled
    step "the collection, on a platform with data" healthy_collection
    step "the collection of faults: dead letters" collection "$faults" "Dead letters"
    step "the collection of faults: deleting everything" collection "$faults" "Delete all movies"
}

# console STATE: the console while the platform is in this state.
console() {
    mkdir -p -- "$pictures"
    step "the console in a browser: $1" in_node env CHROMIUM="$(command -v chromium)" \
        node "$checks/browser.js" "$pictures" "$1"
}

further_service() {
    console further-service
    step "OpenAPI of all services" all_services
}

# The gateway's own document with those of its services in it.
all_services() {
    curl -fsS "$GATEWAY_URL/openapi.json" >"$tools/all-services.json" || return
    in_node node "$checks/openapi.js" "$tools/all-services.json"
}

# records STATE: the console's pages of records, likewise.
records() {
    mkdir -p -- "$pictures"
    step "the pages of records in a browser: $1" in_node env CHROMIUM="$(command -v chromium)" \
        node "$checks/browser-records.js" "$pictures" "$1"
}

conformance() {
    console running
    step "/docs for everybody" in_node env CHROMIUM="$(command -v chromium)" node "$checks/docs-page.js"
    step "clients made from OpenAPI" "$checks/clients/run.sh" "$tools"
    records running
    # schemathesis stores failures in its working directory and retries them first; so every run starts in a new one.
    rm -rf -- "$tools/.schemathesis"
    step "the gateway answers as OpenAPI says" env -C "$tools" "$tools/python/bin/schemathesis" \
        --config-file "$checks/schemathesis.toml" run "$GATEWAY_URL/openapi.yaml" --url "$GATEWAY_URL" \
        --max-examples "${SCHEMATHESIS_EXAMPLES:-25}" --seed "${SCHEMATHESIS_SEED:-1}"
    # By now all metrics have values.
    step "metrics of the gateway" check_metrics "$API_GATEWAY_PRIVATE_URL"
    step "metrics of inventory" check_metrics "$INVENTORY_APP_PRIVATE_URL"
    step "metrics of billing" check_metrics "$BILLING_APP_PRIVATE_URL"
    step "metrics of the broker" check_metrics "$BROKER_PRIVATE_URL"
    step "the dashboard names metrics that exist" dashboard_metrics
    step "the table of metrics in docs/operations.md" documented_metrics
}

check_metrics() {
    curl -fsS "$1/metrics" >"$tools/metrics" || return
    promtool check metrics <"$tools/metrics" || return
    # To promtool, a metric without a type is a comment and an untyped metric.
    [[ $(grep -c '^# TYPE' "$tools/metrics") == $(grep -c '^# HELP' "$tools/metrics") ]] ||
        { say "not every metric has a type" && return 1; }
    say "promtool finds nothing"
}

# Checks that every metric in the dashboard is one that the services write.
dashboard_metrics() {
    local name unknown=''
    curl -fsS "$API_GATEWAY_PRIVATE_URL/metrics" "$INVENTORY_APP_PRIVATE_URL/metrics" \
        "$BILLING_APP_PRIVATE_URL/metrics" >"$tools/metrics" || return
    while IFS= read -r name; do
        grep -qE "^# TYPE (${name%_bucket}|$name) " "$tools/metrics" || unknown+=" $name"
    done < <(grep -ohE '\b(http|orders|broker|upstream|database|process|build)_[a-z_]+\b' docs/grafana-dashboard.json |
        sort -u)
    [[ -z $unknown ]] || { say "unknown:$unknown" && return 1; }
    say "all are known"
}

# Compares the table of metrics with what the parts write, in both directions. No gateway here has an outbox, and there is
# no service with events.
documented_metrics() {
    local table=$tools/metrics.table written=$tools/metrics.written absent
    curl -fsS "$API_GATEWAY_PRIVATE_URL/metrics" "$INVENTORY_APP_PRIVATE_URL/metrics" "$BILLING_APP_PRIVATE_URL/metrics" \
        "$BROKER_PRIVATE_URL/metrics" | sed -n 's/^# TYPE \([a-z0-9_]*\) .*/\1/p' | sort -u >"$written"
    sed -n '/^## Metrics/,/^## Alerts/p' docs/operations.md | grep '^| `' >"$table"
    # shellcheck disable=SC2016 # of code in Markdown
    names_in() { cut -d'|' -f2 | grep -o '`[^`]*`' | tr -d '`' | sort -u; }
    absent=$(names_in <"$table" | comm -13 - "$written")
    [[ -z $absent ]] || { say "not in the table:" "$absent" && return 1; }
    absent=$(grep -vE '\| (gateway, with an outbox|services with events) \|' "$table" | names_in | comm -23 - "$written")
    [[ -z $absent ]] || { say "in the table, and nowhere else:" "$absent" && return 1; }
    say "the table has all $(wc -l <"$written") metrics"
}

main "$@"
