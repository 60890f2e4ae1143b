# Sourced by bench.sh: the processes that are measured, the load, and the table.
# shellcheck shell=bash

# How long each load runs.
seconds=${BENCH_SECONDS:-10}
# Simultaneous connections of a load.
connections=32

declare -A pid=() memory=()
met=0 missed=0

build() {
    target=${CARGO_TARGET_DIR:-$root/target}
    say "Building."
    (cd "$root" && cargo build --release --locked --workspace --bins --target-dir "$target" &&
        cargo build --locked --package system-tests --example order-latency --target-dir "$target") ||
        fail "the build failed"
}

# prepare: a folder, free ports, and the settings of everything.
prepare() {
    ulimit -n "$(ulimit -Hn)" || true
    load_settings
    mkdir -p -- "$data"
    work=$(mktemp -d "$data/bench.XXXXXX")
    chmod go+x -- "$data" "$work"
    postgres_port=$(free_port) nginx_port=$(free_port)
    INVENTORY_PORT=$(free_port) GATEWAY_PORT=$(free_port) RABBITMQ_PORT=$(free_port) guarded_port=$(free_port)
    BROKER_PORT=$RABBITMQ_PORT
    INVENTORY_HOST=127.0.0.1 GATEWAY_HOST=127.0.0.1 BROKER_HOST=127.0.0.1 RABBITMQ_HOST=127.0.0.1
    INVENTORY_DB_HOST=127.0.0.1 BILLING_DB_HOST=127.0.0.1
    INVENTORY_DB_PORT=$postgres_port BILLING_DB_PORT=$postgres_port
    BROKER_DATA_DIR=$work/broker
    # The private listeners are not used.
    export BROKER_PRIVATE_PORT=0 BILLING_PRIVATE_PORT=0 INVENTORY_PRIVATE_PORT=0 GATEWAY_PRIVATE_PORT=0
    inventory=http://127.0.0.1:$INVENTORY_PORT gateway=http://127.0.0.1:$GATEWAY_PORT nginx=http://127.0.0.1:$nginx_port
    INVENTORY_URL=$inventory
    RABBITMQ_VHOST=/
    export INVENTORY_PORT GATEWAY_PORT RABBITMQ_PORT BROKER_PORT INVENTORY_HOST GATEWAY_HOST BROKER_HOST RABBITMQ_HOST
    export INVENTORY_DB_HOST BILLING_DB_HOST INVENTORY_DB_PORT BILLING_DB_PORT BROKER_DATA_DIR INVENTORY_URL RABBITMQ_VHOST
    # The limit for one client address must not affect the measurement.
    export GATEWAY_MAX_CONNECTIONS_PER_CLIENT=1024 LOG_LEVEL=warn
}

free_port() {
    local port
    while :; do
        port=$((16000 + RANDOM % 16000))
        port_is_open 127.0.0.1 "$port" || break
    done
    printf %s "$port"
}

tidy_up() {
    set +e
    trap '' INT TERM HUP
    local process
    stop api-gateway billing-app inventory-app rooms-app nginx
    stop_broker
    for process in "${memory[@]}"; do kill "$process" 2>/dev/null; done
    stop postgres
    [[ ! -L $work/postgres ]] || remove_cluster "$work/postgres"
    [[ -n ${KEEP-} ]] || rm -rf -- "$work"
}

# run_as NAME COMMAND…: starts a process that stop NAME stops.
run_as() {
    local name=$1
    shift
    (cd "$work" && exec "$@") </dev/null >>"$work/$name.log" 2>&1 &
    pid[$name]=$!
    disown "$!"
}

# stop NAME…: stops those of them that are running.
stop() {
    local name signal
    for name in "$@"; do
        [[ -n ${pid[$name]-} ]] || continue
        signal=TERM
        [[ $name != postgres ]] || signal=INT
        kill -"$signal" "${pid[$name]}" 2>/dev/null || true
        wait_for 30 is_gone "${pid[$name]}" || kill -KILL "${pid[$name]}"
        unset "pid[$name]"
    done
}

start_postgres() {
    make_cluster "$work/postgres"
    local command=()
    cluster_command "$postgres_port" -c shared_buffers=256MB -c max_connections=200 -c max_wal_size=4GB
    run_as postgres "${command[@]}"
    wait_for 60 cluster_answers "$postgres_port" || fail "PostgreSQL does not answer: $(<"$work/postgres.log")"
    make_database "$postgres_port" "$INVENTORY_DB_NAME" "$INVENTORY_DB_USER" "$INVENTORY_DB_PASSWORD"
    make_database "$postgres_port" "$BILLING_DB_NAME" "$BILLING_DB_USER" "$BILLING_DB_PASSWORD"
}

movies_sql() { superuser "$postgres_port" -At -d "$INVENTORY_DB_NAME" -c "$1"; }
orders_sql() { superuser "$postgres_port" -At -d "$BILLING_DB_NAME" -c "$1"; }
count_orders() { orders_sql "SELECT count(*) FROM orders"; }
has_orders() { (($(count_orders) >= $1)); }

# insert_movies QUERY: inserts the rows that the query selects. The index on titles is created afterwards, which is many
# times faster.
insert_movies() {
    local index
    index=$(movies_sql "SELECT indexdef FROM pg_indexes WHERE indexname = 'movies_title_trigrams'")
    [[ -n $index ]] || fail "inventory made no index movies_title_trigrams"
    movies_sql "DROP INDEX movies_title_trigrams; INSERT INTO movies (title, description) $1; $index"
    movies_sql "VACUUM ANALYZE movies"
    superuser "$postgres_port" -c CHECKPOINT
}

# Titles like "Movie 4c56ff4ce4aa and others", so that a search for a few letters finds a few.
fill_movies() {
    say "Filling in $movies movies."
    insert_movies "SELECT 'Movie ' || substr(md5(i::text), 1, 12) || ' and others',
        'A film about number ' || i || ', and about others.' FROM generate_series(1, $movies) i"
}

# start_service NAME PORT: starts it unless it runs, and waits until it is ready, or listens when it has no /ready.
# Sets ready_after to the milliseconds that took.
start_service() {
    local name=$1 probe=$2 start
    shift 2
    [[ -z ${pid[$name]-} ]] || return 0
    : >"$work/$name.log"
    start=$EPOCHREALTIME
    run_as "$name" "$target/release/$name"
    local deadline=$((SECONDS + 30))
    until "$probe" "$@"; do
        if ((SECONDS >= deadline)) || is_gone "${pid[$name]}"; then
            fail "$name does not start: $(<"$work/$name.log")"
        fi
        sleep 0.002
    done
    ready_after=$(calc "($EPOCHREALTIME - $start) * 1000")
}

# is_ready PORT: whether /ready answers 200, checked without starting a program.
is_ready() {
    local line
    {
        exec 3<>"/dev/tcp/127.0.0.1/$1" &&
            printf 'GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3 &&
            IFS= read -r line <&3 && exec 3>&-
    } 2>/dev/null && [[ $line == 'HTTP/1.1 200'* ]]
}

has_logged() { grep -q "$2" "$work/$1.log"; }

start_inventory() { start_service inventory-app is_ready "$INVENTORY_PORT"; }
start_billing() { LOG_LEVEL=info start_service billing-app has_logged billing-app "consuming from"; }

# Without a broker the gateway is never ready, but it serves movies.
start_gateway() {
    if [[ -n ${broker_pid-} ]]; then
        start_service api-gateway is_ready "$GATEWAY_PORT"
    else
        start_service api-gateway port_is_open 127.0.0.1 "$GATEWAY_PORT"
    fi
}

# A second gateway, with tokens and an outbox. Sets guarded_token to one that may write.
start_guarded_gateway() {
    local lines
    mapfile -t lines < <("$target/release/api-gateway" --new-token bench write)
    guarded_token=${lines[1]// /}
    run_as guarded-gateway env GATEWAY_PORT="$guarded_port" GATEWAY_TOKENS="${lines[3]// /}" GATEWAY_PUBLIC_READS=0 \
        GATEWAY_OUTBOX_DIR="$work/outbox" "$target/release/api-gateway"
    wait_for 30 is_ready "$guarded_port" || fail "the gateway with tokens does not start: $(<"$work/guarded-gateway.log")"
}

start_embedded() {
    start_service broker port_is_open 127.0.0.1 "$BROKER_PORT"
    broker_pid=${pid[broker]}
}

start_RabbitMQ() {
    local home=$work/rabbitmq mapper_port
    mapper_port=$(free_port)
    mkdir -p -- "$home"
    cat >"$home/rabbitmq.conf" <<END
listeners.tcp.default = 127.0.0.1:$RABBITMQ_PORT
default_user = $RABBITMQ_USER
default_pass = $RABBITMQ_PASSWORD
log.console = true
log.file = false
END
    printf '[].\n' >"$home/enabled_plugins"
    rabbitmq_environment=(HOME="$home" ERL_EPMD_PORT="$mapper_port" ERL_EPMD_ADDRESS=127.0.0.1
        RABBITMQ_NODENAME="bench$RABBITMQ_PORT@localhost" RABBITMQ_NODE_PORT="$RABBITMQ_PORT"
        RABBITMQ_DIST_PORT="$(free_port)"
        RABBITMQ_CONF_ENV_FILE="$home/none" RABBITMQ_CONFIG_FILE="$home/rabbitmq.conf"
        RABBITMQ_ENABLED_PLUGINS_FILE="$home/enabled_plugins" RABBITMQ_MNESIA_BASE="$home/data"
        RABBITMQ_LOG_BASE="$home" RABBITMQ_PID_FILE="$home/pid" RUNNING_UNDER_SYSTEMD=true)
    run_as epmd env "${rabbitmq_environment[@]}" epmd
    run_as rabbitmq env -u RABBITMQ_USER -u RABBITMQ_VHOST "${rabbitmq_environment[@]}" /usr/lib/rabbitmq/bin/rabbitmq-server
    broker_pid=${pid[rabbitmq]}
    wait_for 60 port_is_open 127.0.0.1 "$RABBITMQ_PORT" || fail "RabbitMQ does not start: $(<"$work/rabbitmq.log")"
}

stop_broker() {
    stop broker rabbitmq epmd
    broker_pid=
    rm -rf -- "$BROKER_DATA_DIR" "$work/rabbitmq"
}

start_nginx() {
    [[ -z ${pid[nginx]-} ]] || return 0
    local user='#'
    # As root, nginx's workers would change to a user that cannot enter every folder.
    ((EUID != 0)) || user='user root;'
    mkdir -p -- "$work/nginx"
    cat >"$work/nginx/nginx.conf" <<END
$user
daemon off;
worker_processes auto;
pid $work/nginx/pid;
error_log stderr;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path $work/nginx;
    proxy_temp_path $work/nginx;
    fastcgi_temp_path $work/nginx;
    uwsgi_temp_path $work/nginx;
    scgi_temp_path $work/nginx;
    keepalive_requests 1000000000;
    upstream inventory { server 127.0.0.1:$INVENTORY_PORT; keepalive 64; keepalive_requests 1000000000; }
    server {
        listen 127.0.0.1:$nginx_port;
        location / { proxy_pass http://inventory; proxy_http_version 1.1; proxy_set_header Connection ""; }
    }
}
END
    run_as nginx env PATH="$PATH:/usr/sbin" nginx -p "$work/nginx" -c "$work/nginx/nginx.conf"
    wait_for 10 port_is_open 127.0.0.1 "$nginx_port" || fail "nginx does not start: $(<"$work/nginx.log")"
}

# load URL KIND [FILE]: the load, measured from its first second on. Sets rate (per second), p99 (ms), bytes (per second) and answers.
load() {
    local url=$1 script=$here/bench/requests.lua failures
    shift
    TOKEN=${token-} wrk -t2 -c"$connections" -d"$seconds" --timeout 30s -s "$script" "$url" -- "$@" >"$work/wrk.log" || load_failed
    read -r _ rate p99 bytes answers failures < <(grep ^RESULT "$work/wrk.log") || fail "$(<"$work/wrk.log")"
    if ((failures > 0)); then
        say "  !! $failures of $answers requests failed"
        missed=$((missed + 1))
    fi
}

load_failed() {
    tail -n 5 -- "$work"/*.log >&2
    fail "wrk could not load the service"
}

# pss PID: the proportional set size of a process and its children, in MiB.
pss() {
    awk '/^Pss:/ { sum += $2 } END { printf "%.1f", sum / 1024 }' "/proc/$1/smaps_rollup" 2>/dev/null
}

# watch_memory NAME PID: records the highest PSS from now on; highest NAME returns it.
watch_memory() {
    [[ -z ${memory[$1]-} ]] || kill "${memory[$1]}" 2>/dev/null || true
    local file=$work/$1.pss
    : >"$file"
    (
        while pss "$2" >>"$file" && echo >>"$file"; do sleep 0.2; done
    ) &
    memory[$1]=$!
    disown "$!"
}

highest() { sort -n "$work/$1.pss" | tail -n 1; }

calc() { awk "BEGIN { printf \"%.3f\", $1 }"; }
round() { printf '%.0f' "$1"; }
is_true() { awk "BEGIN { exit !($1) }"; }

heading() {
    say
    printf '%-58s %14s  %-26s %s\n' what measured budget ''
}

# figure WHAT VALUE NOTE: a line without a budget.
figure() { printf '%-58s %14s  %s\n' "$1" "$2" "$3"; }

# judge WHAT VALUE BUDGET CONDITION
judge() {
    local word=met
    if is_true "$4"; then met=$((met + 1)); else word='NOT MET' && missed=$((missed + 1)); fi
    printf '%-58s %14s  %-26s %s\n' "$1" "$2" "$3" "$word"
}

budget_share() {
    local share
    share=$(calc "$2 / $pgbench_rate")
    judge "$1" "$(round "$2") /s" ">= $3 of pgbench; is $share" "$share >= $3"
}
budget_at_least() { judge "$1" "$(calc "$2") $4" ">= $3 $4" "$2 >= $3"; }
budget_at_most() { judge "$1" "$(calc "$2") $4" "<= $3 $4" "$2 <= $3"; }

summary() {
    say
    say "$met budgets met, $missed not met."
    say "$(nproc) processors, $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), \
$("$pg/postgres" --version), $(uname -sr)."
}
