#!/usr/bin/env bash
# Tests run.sh from its start to its end, with programs that only look like cargo, PostgreSQL, the services and curl.
set -uo pipefail

# shellcheck source=testing.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/testing.sh"
# shellcheck source=../lib/project.sh
. "$here/lib/project.sh"

make_program "$work/bin/cc" <<<'exit 0'
make_program "$work/bin/cargo" <<<"touch '$work/cargo-was-called'"
make_program "$work/bin/curl" <<<"printf '{\"status\":\"ready\"} 200'"
make_program "$work/bin/psql" <<<'cat >/dev/null'
make_program "$work/bin/initdb" <<'END'
for option in "$@"; do
    if [[ $option == --pgdata=* ]]; then mkdir -p -- "${option#*=}" && echo 15 >"${option#*=}/PG_VERSION"; fi
done
END
make_program "$work/bin/postgres" <<'END'
[[ $1 != --version ]] || { echo "postgres (PostgreSQL) 15.0" && exit; }
# It leaves on SIGINT, which a shell has its processes in the background ignore.
exec env --default-signal=INT sleep 1000
END
# A service that a file forbids to run says why, as the real ones do.
for program in broker inventory-app billing-app my-todo-app api-gateway; do
    make_program "$work/target/release/$program" <<<"[[ ! -e $work/broken-$program ]] || { echo '$program is broken' && exit 1; }
exec sleep 1000"
done
PATH=$work/bin:$PATH
export CARGO_TARGET_DIR=$work/target

# begin NAME: a checkout of its own, with ports that nobody has.
begin() {
    local setting port=$((20000 + RANDOM % 12000))
    make_checkout "$1"
    for setting in GATEWAY INVENTORY BROKER INVENTORY_DB; do
        while port_is_open 127.0.0.1 $((++port)); do :; done
        export "${setting}_PORT=$port"
    done
    run=$checkout/scripts/run.sh log=$work/$1.log
    trap '"$run" stop >/dev/null 2>&1' EXIT
}

start() {
    # What an earlier run has logged must not be taken for the word of this one.
    : >"$log"
    # Under nohup, SIGHUP would be ignored for good.
    env --default-signal=HUP "$run" >>"$log" 2>&1 &
    supervisor=$!
    wait_for 20 grep -q 'The platform is ready' "$log" || fail "it did not start: $(<"$log")"
}

test_the_commands_of_the_readme() {
    local name
    begin readme
    start
    succeeds "$run" list
    for name in postgres broker inventory_app billing_app api_gateway; do expect "$seen" "*$name *running *"; done
    # The gateway is told, so that the console can show commands of this script.
    read -r _ name _ <"$checkout/.data/run/api_gateway.state"
    grep -qzxF GATEWAY_DEPLOYMENT=script "/proc/$name/environ" || fail "the gateway does not know how it was started"
    succeeds "$run" stop billing_app
    expect "$seen" "billing_app is stopped."
    succeeds "$run" list
    expect "$seen" "*billing_app *stopped *"
    succeeds "$run" start billing_app
    expect "$seen" "billing_app is running."
    succeeds "$run" restart api-gateway
    expect "$seen" "api_gateway is running."
    fails "$run"
    expect "$seen" "*runs already*"
    succeeds "$run" stop
    wait "$supervisor" || fail "it ended with $?"
    fails "$run" list
    # And again, until the terminal is closed. Shells have those in the background ignore SIGINT.
    start
    kill -HUP "$supervisor"
    wait "$supervisor" || fail "it ended with $?"
    expect "$(<"$log")" "*Stopping."
}

test_a_part_that_ends_at_its_start_is_told_at_once() {
    local began=$SECONDS
    begin broken
    touch -- "$work/broken-billing-app"
    fails "$run"
    rm -- "$work/broken-billing-app"
    expect "$seen" "*billing-app is broken*billing_app has ended at its start; the log is $checkout/.data/logs/billing_app.log"
    ((SECONDS - began < 15)) || fail "only after $((SECONDS - began)) s"
    fails "$run" list
}

test_what_cannot_be_is_refused_before_anything_is_built_or_started() {
    local setting
    begin refused
    rm -f -- "$work/cargo-was-called"
    for setting in INVENTORY_WORKERS=9999 GATEWAY_MAX_CONNECTIONS=0 GATEWAY_PORT=99999 GATEWAY_PORT= BROKER_SEGMENT_BYTES=1; do
        fails env "$setting" "$run"
        expect "$seen" "run.sh: ${setting%%=*} *"
        [[ ! -e $work/cargo-was-called && ! -e $checkout/.data/postgres ]] || fail "with $setting it has begun"
    done
    start
    [[ -e $work/cargo-was-called && -e $checkout/.data/postgres ]] || fail "cargo and PostgreSQL leave other traces"
}

test_services_that_settings_name_run_as_well() {
    begin services
    # The second one is elsewhere.
    export GATEWAY_SERVICES=my-todo=/todo,films=/films FILMS_URL=http://127.0.0.1:1
    export MY_TODO_DB_NAME=todo_db MY_TODO_DB_USER=todo
    fails "$run"
    expect "$seen" "*MY_TODO_PORT is not set*MY_TODO_DB_PASSWORD is not set"
    export MY_TODO_PORT=$((GATEWAY_PORT - 1)) MY_TODO_DB_PASSWORD=dummy
    start
    expect "$(<"$log")" "*curl -s http://127.0.0.1:$GATEWAY_PORT/todo*"
    # What the platform runs is known to shells without these settings, too.
    unset GATEWAY_SERVICES
    succeeds "$run" list
    expect "$seen" "*billing_app *running *my_todo_app *running *api_gateway *running *"
    succeeds "$run" stop my-todo-app
    expect "$seen" "my_todo_app is stopped."
    succeeds "$run" stop
    # Without them, it is not started again.
    start
    succeeds "$run" list
    fails grep my_todo_app <<<"$seen"
    export GATEWAY_SERVICES=todo
    fails "$run"
    expect "$seen" "*GATEWAY_SERVICES: every member must be NAME=/PREFIX*"
}

test_what_is_left_after_kill_9() {
    begin killed
    start
    kill -KILL "$supervisor"
    wait "$supervisor"
    succeeds "$run" list
    expect "$seen" "*api_gateway *left *run.sh was killed*"
    succeeds "$run" stop
    expect "$seen" "*Ending the api_gateway*Ending the postgres*Stopped."
    fails "$run" list
}

run_tests
