#!/usr/bin/env bash
# Runs the whole platform on this machine until Ctrl-C: PostgreSQL, broker, inventory, billing, the services of
# GATEWAY_SERVICES that have a database here, and the gateway.
#
#   scripts/run.sh               build, start, wait until ready, tell where it listens; Ctrl-C stops it
#   scripts/run.sh list          what runs
#   scripts/run.sh stop NAME     stop one of api_gateway, inventory_app, billing_app, broker, postgres, or a service's
#                                program, such as todo_app
#   scripts/run.sh start NAME    start it again, at once even if it waits because it has ended too often
#   scripts/run.sh restart NAME  stop it and start it
#   scripts/run.sh stop          stop everything, as Ctrl-C does
#   scripts/run.sh logs [-f] [NAME]
#                                the last lines of all logs, or of one; with -f also what is added, until Ctrl-C
#
# Settings come from .env; the environment wins, so a second checkout runs beside the first with
#   GATEWAY_PORT=3001 INVENTORY_PORT=8081 BROKER_PORT=5673 INVENTORY_DB_PORT=15433 scripts/run.sh
# What it stores is under .data and is there again at the next start; so are the logs, in .data/logs. Where the user
# postgres cannot enter the checkout, PostgreSQL's data is in /var/lib/crud-master.XXXXXX instead: scripts/run.sh says
# so, and removes it once .data was removed.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"
# shellcheck source=lib/postgres.sh
. "$here/lib/postgres.sh"
# shellcheck source=lib/platform.sh
. "$here/lib/platform.sh"
# shellcheck source=lib/supervisor.sh
. "$here/lib/supervisor.sh"

# How long the platform may take to become ready, in seconds.
ready_limit=60

main() {
    local verb=${1-}
    remember_names
    case $verb in
        '') at_most 0 "$@" && run ;;
        list) at_most 1 "$@" && list_processes ;;
        start | restart)
            [[ -n ${2-} ]] || fail "$verb needs a name: scripts/run.sh $verb NAME; the names are ${names[*]}"
            at_most 2 "$@" && send_command "$verb" "$2"
            ;;
        stop)
            at_most 2 "$@"
            if [[ -n ${2-} ]]; then send_command stop "$2"; else stop_supervisor; fi
            ;;
        logs) shift && show_logs "$@" ;;
        -h | --help) show_help ;;
        -*) fail "unknown option $verb; see scripts/run.sh --help" ;;
        *) fail "unknown command $verb; see scripts/run.sh --help" ;;
    esac
}

# at_most COUNT ARGUMENT…
at_most() { (($# - 1 <= $1)) || fail "too many arguments; see scripts/run.sh --help"; }

run() {
    load_settings
    read_services
    local name prefix needed=()
    for name in "${service_names[@]}"; do
        prefix=$(variable_of "$name")
        needed+=("${prefix}_PORT" "${prefix}"_DB_{NAME,USER,PASSWORD})
    done
    check_settings {GATEWAY,INVENTORY,BROKER}_{HOST,PORT} RABBITMQ_{PORT,USER,PASSWORD} \
        {INVENTORY,BILLING}_DB_{HOST,PORT,NAME,USER,PASSWORD} "${needed[@]}"
    connect_settings
    supervise
    name_processes
    check_ports
    choose_private_ports
    printf '%s\n' "$gateway" >"$state_folder/gateway"
    need_rust
    need curl postgres
    build
    # Each connection needs a descriptor, and the default limit is too low for servers.
    ulimit -n "$(ulimit -Hn)" || true
    trap stop_all EXIT
    trap 'stopping=yes' INT TERM HUP
    make_cluster "$data/postgres"
    start_process postgres
    come_up postgres "PostgreSQL does not answer" cluster_answers "$INVENTORY_DB_PORT"
    make_database "$INVENTORY_DB_PORT" "$INVENTORY_DB_NAME" "$INVENTORY_DB_USER" "$INVENTORY_DB_PASSWORD"
    make_database "$INVENTORY_DB_PORT" "$BILLING_DB_NAME" "$BILLING_DB_USER" "$BILLING_DB_PASSWORD"
    for name in "${service_names[@]}"; do
        make_database "$INVENTORY_DB_PORT" "$(setting_of "$name" DB_NAME)" "$(setting_of "$name" DB_USER)" \
            "$(setting_of "$name" DB_PASSWORD)"
    done
    for name in "${names[@]:1}"; do
        start_process "$name"
    done
    come_up api_gateway "the platform is not ready" is_ready
    greet
    while [[ $stopping == no ]]; do
        watch_over_all
    done
    say "Stopping."
}

# remember_names: the processes of the platform that runs, or ran last, for the commands of other shells.
remember_names() {
    if [[ -s $state_folder/names ]]; then read -r -a names <"$state_folder/names"; fi
}

# name_processes: sets names to what this run starts, in this order, and program to the binary of each service.
declare -A program=()
name_processes() {
    local name process
    names=(postgres broker inventory_app billing_app)
    for name in "${service_names[@]}"; do
        process=${name//-/_}_app
        names+=("$process")
        program[$process]=$name-app
    done
    names+=(api_gateway)
    printf '%s\n' "${names[*]}" >"$state_folder/names"
}

# All parts run on this machine, whatever hosts .env names.
connect_settings() {
    local name prefix
    same INVENTORY_DB_HOST BILLING_DB_HOST
    same INVENTORY_DB_PORT BILLING_DB_PORT
    same BROKER_PORT RABBITMQ_PORT
    export RABBITMQ_HOST=127.0.0.1
    # The console shows commands of this script.
    export GATEWAY_DEPLOYMENT=script
    # An order is taken when the broker is away.
    export GATEWAY_OUTBOX_DIR=${GATEWAY_OUTBOX_DIR-$data/outbox}
    if [[ $INVENTORY_DB_HOST != 127.0.0.1 || $BILLING_DB_HOST != 127.0.0.1 ]]; then
        fail "INVENTORY_DB_HOST and BILLING_DB_HOST must be 127.0.0.1: this script runs a PostgreSQL of its own"
    fi
    # shellcheck disable=SC2153 # all of these come from .env
    if [[ $INVENTORY_DB_PORT != "$BILLING_DB_PORT" || $BROKER_PORT != "$RABBITMQ_PORT" ]]; then
        fail "INVENTORY_DB_PORT and BILLING_DB_PORT must be equal, and so must BROKER_PORT and RABBITMQ_PORT"
    fi
    for name in "${service_names[@]}"; do
        prefix=$(variable_of "$name")
        export "${prefix}_HOST=127.0.0.1" "${prefix}_DB_HOST=127.0.0.1" "${prefix}_DB_PORT=$INVENTORY_DB_PORT"
    done
    gateway=http://127.0.0.1:$GATEWAY_PORT
}

# check_ports: fails if another program uses one of our ports; otherwise a service would fail to start again and again.
check_ports() {
    local setting host settings=(GATEWAY INVENTORY BROKER INVENTORY_DB)
    for host in "${service_names[@]}"; do settings+=("$(variable_of "$host")"); done
    for setting in "${settings[@]}"; do
        host=${setting}_HOST
        if port_is_open "${!host}" "$(eval "printf %s \"\$${setting}_PORT\"")"; then
            host=${setting}_PORT
            fail "port ${!host} is taken; give another, such as ${setting}_PORT=$((${!host} + 1)) scripts/run.sh"
        fi
    done
}

# choose_private_ports: a private listener whose default port is taken, for instance by another checkout, takes any free
# port; its log names it.
choose_private_ports() {
    local part name port parts=(gateway:9301 inventory:9302 billing:9303 broker:9304)
    local -A default=()
    read_defaults
    for part in "${service_names[@]}"; do
        name=$(variable_of "$part")_PRIVATE_PORT
        if [[ -v default[$name] ]]; then parts+=("$part:${default[$name]}"); fi
    done
    for part in "${parts[@]}"; do
        port=${part#*:} part=${part%:*}
        name=$(variable_of "$part")_PRIVATE_PORT
        if [[ ! -v $name ]] && port_is_open 127.0.0.1 "$port"; then
            say "Port $port is taken: the private listener of $part takes a free one; scripts/run.sh logs shows which."
            export "$name=0"
        fi
    done
}

build() {
    local binaries=(api-gateway inventory-app billing-app broker "${program[@]}")
    target=${CARGO_TARGET_DIR:-$root/target}
    say "Building."
    (cd "$root" && exec cargo build --release --locked "${binaries[@]/#/--bin=}" --target-dir "$target" 8>&- 9>&-) ||
        fail "the build failed"
}

# command_of NAME: sets command to the command that runs it. The supervisor calls this at every start.
command_of() {
    case $1 in
        postgres) cluster_command "$INVENTORY_DB_PORT" ;;
        broker) command=("$target/release/broker") ;;
        inventory_app) command=("$target/release/inventory-app") ;;
        billing_app) command=("$target/release/billing-app") ;;
        api_gateway) command=("$target/release/api-gateway") ;;
        *) command=("$target/release/${program[$1]}") ;;
    esac
}

# come_up NAME PROBLEM COMMAND…: waits until the command succeeds. Gives up at once if a process has ended, since it
# would only end again; after the timeout, gives up with PROBLEM and the log of NAME.
come_up() {
    local last=$1 problem=$2 deadline=$((SECONDS + ready_limit)) name
    shift 2
    while :; do
        # Waits a moment, so that a process that cannot run has ended by then.
        take_commands
        leave_if_asked
        for name in "${names[@]}"; do
            ! has_ended "$name" || give_up "$name" "$name has ended at its start"
        done
        ! "$@" || return 0
        ((SECONDS < deadline)) || give_up "$last" "$problem after $ready_limit s${answer:+: $answer}"
    done
}

leave_if_asked() {
    [[ $stopping == no ]] || { say "Stopping." && exit; }
}

# is_ready: whether the whole platform is ready, the broker included, without which the gateway is ready, too. Keeps the
# gateway's answer.
answer=''
is_ready() {
    answer=$(curl -sS -m 5 -w ' %{http_code}' "$gateway/ready" 2>&1) && [[ $answer == '{"status":"ready"} 200' ]]
}

# give_up NAME PROBLEM: shows the end of a log, stops everything and fails.
give_up() {
    show_log "$1" "${log_begin[$1]:-0}" >&2
    fail "$2; the log is $log_folder/$1.log"
}

greet() {
    local name
    cat <<END

The platform is ready at $gateway

  curl -s $gateway/api/movies
  curl -s $gateway/api/movies -H 'Content-Type: application/json' -d '{"title": "Alien", "description": "1979"}'
  curl -s $gateway/api/billing -H 'Content-Type: application/json' -d '{"user_id": "3", "number_of_items": "5", "total_amount": "180"}'
$(for name in "${service_names[@]}"; do printf '  curl -s %s\n' "$gateway${service_path[$name]}"; done)

See the tables with  scripts/psql.sh movies_db -c 'TABLE movies'  and  scripts/psql.sh billing_db -c 'TABLE orders'.
Stop and start parts with  scripts/run.sh stop billing_app  and  scripts/run.sh start billing_app.
The logs are in $log_folder. Ctrl-C stops everything.
END
}

main "$@"
