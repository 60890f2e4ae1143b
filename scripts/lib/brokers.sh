# Sourced by scripts that compare brokers: starts our own or Debian's RabbitMQ on a free port, with a data folder and
# credentials of its own. A script may set fixed_port, and broker_host to localhost for both loopback addresses.
# shellcheck shell=bash

broker_user=local-user
broker_password=$(head -c 12 /dev/urandom | base64 | tr -dc 'a-zA-Z0-9')
rabbitmq_server=/usr/lib/rabbitmq/bin/rabbitmq-server

unused_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    printf %s "$port"
}

# wait_for_port PORT PID: waits until the port is open or the process has ended.
wait_for_port() {
    local deadline=$((SECONDS + 60))
    until (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do
        kill -0 "$2" 2>/dev/null || return 1
        ((SECONDS < deadline)) || return 1
        sleep 0.02
    done
}

# start_own BINARY FOLDER: sets broker_pid, broker_port and broker_private_port.
start_own() {
    broker_port=${fixed_port:-$(unused_port)}
    (cd /tmp && exec env BROKER_HOST="${broker_host:-127.0.0.1}" BROKER_PORT="$broker_port" BROKER_PRIVATE_PORT=0 BROKER_DATA_DIR="$2" \
        RABBITMQ_USER="$broker_user" RABBITMQ_PASSWORD="$broker_password" RABBITMQ_VHOST=/ "$1") 2>>"$2.log" &
    broker_pid=$!
    wait_for_port "$broker_port" "$broker_pid" || return
    # It may not have said so yet: the port is open before the private listener is.
    for _ in {1..500}; do
        broker_private_port=$(sed -n 's/.*private listener at .*:\([0-9]*\)$/\1/p' "$2.log" | tail -n 1)
        [[ -z $broker_private_port ]] || break
        sleep 0.02
    done
}

# start_rabbitmq FOLDER: sets broker_pid, broker_port and mapper_pid.
start_rabbitmq() {
    local folder=$1 mapper_port dist_port
    [[ -x $rabbitmq_server ]] || return 1
    broker_port=${fixed_port:-$(unused_port)} mapper_port=$(unused_port) dist_port=$(unused_port)
    mkdir -p "$folder"
    printf 'listeners.tcp.1 = 127.0.0.1:%s\ndefault_user = %s\ndefault_pass = %s\nlog.console = false\n' \
        "$broker_port" "$broker_user" "$broker_password" >"$folder/rabbitmq.conf"
    [[ ${broker_host-} != localhost ]] || printf 'listeners.tcp.2 = ::1:%s\n' "$broker_port" >>"$folder/rabbitmq.conf"
    printf '[].\n' >"$folder/enabled_plugins"
    local -a settings=(
        PATH="$PATH" LANG=C.UTF-8 HOME="$folder" ERL_EPMD_PORT="$mapper_port" ERL_EPMD_ADDRESS=127.0.0.1
        RABBITMQ_NODENAME="compare$broker_port@localhost" RABBITMQ_DIST_PORT="$dist_port"
        RABBITMQ_CONF_ENV_FILE="$folder/none" RABBITMQ_CONFIG_FILE="$folder/rabbitmq.conf"
        RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins" RABBITMQ_MNESIA_BASE="$folder/data"
        RABBITMQ_LOG_BASE="$folder" RABBITMQ_PID_FILE="$folder/pid" RUNNING_UNDER_SYSTEMD=true
    )
    (cd "$folder" && exec env -i "${settings[@]}" epmd) >/dev/null 2>&1 &
    mapper_pid=$!
    (cd "$folder" && exec env -i "${settings[@]}" "$rabbitmq_server") >"$folder/log" 2>&1 &
    broker_pid=$!
    wait_for_port "$broker_port" "$broker_pid"
}

# stop_started: stops the broker that was started last.
stop_started() {
    local process
    for process in "${broker_pid:-}" "${mapper_pid:-}"; do
        [[ -z $process ]] || { kill "$process" 2>/dev/null && wait "$process" 2>/dev/null; } || true
    done
    broker_pid='' mapper_pid=''
}
