#!/usr/bin/env bash
# Measures the platform on this machine, beside what it can be compared with, in one run: PostgreSQL alone (pgbench),
# nginx in front of the same inventory, RabbitMQ in place of our own broker.
#
#   scripts/bench.sh                 everything, about eight minutes
#   scripts/bench.sh ROW…            only these of: inventory gateway door title list create orders latency million
#                                    memory sizes start rooms broker
#   BENCH_SECONDS=30 scripts/bench.sh …   longer than the 10 seconds for which each load runs
#
# Prints a table with the budget of each figure and whether it is met. PostgreSQL is a private one, with fsync on and
# 100,000 movies in it, on the disk that holds the checkout. Everything is removed at the end.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"
# shellcheck source=lib/postgres.sh
. "$here/lib/postgres.sh"
# shellcheck source=lib/bench.sh
. "$here/lib/bench.sh"
# shellcheck source=lib/bench-rooms.sh
. "$here/lib/bench-rooms.sh"

movies=100000
all_rows="inventory gateway door title list create orders latency memory sizes start rooms million broker"

main() {
    local row
    for row in "$@"; do
        case $row in
            -h | --help) show_help && exit ;;
            -*) fail "unknown option $row; see scripts/bench.sh --help" ;;
        esac
        [[ " $all_rows " == *" $row "* ]] || fail "there is no row $row; the rows are: $all_rows"
    done
    [[ $# -gt 0 ]] || eval "set -- $all_rows"
    need_rust
    need postgres wrk nginx curl
    if [[ " $* " == *" orders "* || " $* " == *" broker "* ]]; then need rabbitmq-server; fi
    build
    prepare
    trap tidy_up EXIT
    trap 'exit 130' INT TERM HUP
    start_postgres
    start_inventory
    fill_movies
    heading
    measure_pgbench
    for row in $all_rows; do
        [[ " $* " != *" $row "* ]] || "row_$row"
    done
    summary
}

# Every figure that is compared with PostgreSQL's own speed is a part of this one.
measure_pgbench() {
    cat >"$work/one-movie.sql" <<END
\\set id random(1, $movies)
SELECT id, title, description FROM movies WHERE id = :id;
END
    pgbench_rate=$(pgbench_movies one-movie 8)
    figure "PostgreSQL alone, one movie by id (pgbench -c 8)" "$(round "$pgbench_rate") /s" "the yardstick"
}

# pgbench_movies SCRIPT CLIENTS: transactions per second in the database of movies.
pgbench_movies() {
    local tps
    tps=$(PGPASSWORD=$INVENTORY_DB_PASSWORD "$pg/pgbench" -n -M prepared -c "$2" -j 2 -T "$seconds" \
        -f "$work/$1.sql" -h 127.0.0.1 -p "$postgres_port" -U "$INVENTORY_DB_USER" "$INVENTORY_DB_NAME" \
        2>"$work/pgbench.log" | sed -n 's/^tps = \([0-9.]*\).*/\1/p')
    [[ -n $tps ]] || fail "pgbench failed: $(<"$work/pgbench.log")"
    printf %s "$tps"
}

row_inventory() {
    load "$inventory" movie
    budget_share "inventory, one movie by random id" "$rate" 0.60
    budget_at_most "inventory, the same, 99th percentile" "$p99" 5 ms
}

row_gateway() {
    start_gateway
    start_nginx
    local ours=0 theirs=0 our_p99=0 their_p99=0
    # In turns, because machines have moods.
    for _ in 1 2; do
        load "$gateway" movie
        ours=$(calc "$ours + $rate / 2") our_p99=$(calc "$our_p99 + $p99 / 2")
        load "$nginx" movie
        theirs=$(calc "$theirs + $rate / 2") their_p99=$(calc "$their_p99 + $p99 / 2")
    done
    figure "nginx's proxy_pass, one movie by random id" "$(round "$theirs") /s" "p99 $their_p99 ms"
    budget_at_least "gateway, one movie by random id" "$ours" "$(round "$theirs")" "/s"
    budget_at_most "gateway, the same, 99th percentile" "$our_p99" "$their_p99" ms
    figure "gateway as a part of nginx" "$(calc "$ours / $theirs")" ""
}

# What tokens and the outbox cost: a gateway with them beside one without, in turns.
row_door() {
    local kind request with without guarded=http://127.0.0.1:$guarded_port
    stop api-gateway
    start_embedded
    start_gateway
    start_guarded_gateway
    for kind in movie create order; do
        with=0 without=0
        for _ in 1 2 3; do
            load "$gateway" "$kind"
            without=$(calc "$without + $rate / 3")
            token=$guarded_token load "$guarded" "$kind"
            with=$(calc "$with + $rate / 3")
        done
        case $kind in
            movie) request="one movie by random id" ;;
            create) request="POST one movie" ;;
            order) request="POST /api/billing" ;;
        esac
        figure "gateway without tokens and outbox, $request" "$(round "$without") /s" ""
        budget_at_least "with them, as a part of that" "$(calc "$with / $without")" 0.97 ""
    done
    movies_sql "DELETE FROM movies WHERE id > $movies"
    movies_sql "VACUUM ANALYZE movies"
    stop guarded-gateway api-gateway
    stop_broker
}

row_title() {
    start_gateway
    movies_sql "SELECT substr(title, 8, 6) FROM movies WHERE id <= $movies ORDER BY md5(id::text) LIMIT 1000" >"$work/words"
    load "$gateway" title "$work/words"
    budget_share "gateway, ?title= that matches a few" "$rate" 0.05
}

row_list() {
    start_gateway
    connections=2 load "$gateway" list
    budget_at_least "gateway, list of $movies" "$(calc "$bytes / 1000000")" 100 "MB/s"
}

row_create() {
    start_gateway
    load "$gateway" create
    budget_share "gateway, POST one movie" "$rate" 0.25
    cat >"$work/new-movie.sql" <<END
\\set number random(1, 2000000000)
INSERT INTO movies (title, description) VALUES ('New movie ' || :number, 'of the benchmark') RETURNING *;
END
    figure "PostgreSQL alone, inserting one such movie (pgbench -c 32)" "$(round "$(pgbench_movies new-movie 32)") /s" ""
    movies_sql "DELETE FROM movies WHERE id > $movies"
    movies_sql "VACUUM ANALYZE movies"
}

# Measures posting while billing is stopped, and with our broker also while billing stores; then how fast billing stores
# the backlog.
row_orders() {
    local kind
    for kind in RabbitMQ embedded; do
        stop api-gateway billing-app
        "start_$kind"
        start_billing
        start_gateway
        if [[ $kind == embedded ]]; then
            load "$gateway" order
            budget_share "gateway, POST /api/billing, our broker, billing beside" "$rate" 0.40
        fi
        wait_for 300 queue_is_empty || fail "billing does not empty its queue"
        stop billing-app
        orders_sql "TRUNCATE orders, processed_messages"
        load "$gateway" order
        watch_memory "$kind" "$broker_pid"
        if [[ $kind == RabbitMQ ]]; then
            budget_share "gateway, POST /api/billing, RabbitMQ" "$rate" 0.24
        else
            figure "gateway, POST /api/billing, our broker, billing stopped" "$(round "$rate") /s" ""
        fi
        drain "$kind"
        stop api-gateway billing-app
        stop_broker
    done
}

# Whether every order that was posted is in the table: billing has nothing left to do.
queue_is_empty() {
    local waiting
    waiting=$(curl -fsS "$gateway/api/status" | sed -n 's/.*"messages_waiting":\([0-9]*\).*/\1/p')
    [[ $waiting == 0 ]]
}

# drain KIND: how fast billing empties the queue that the last load has filled.
drain() {
    local expected=$answers start took
    start=$EPOCHREALTIME
    start_billing
    watch_memory billing-app "${pid[billing-app]}"
    wait_for 300 has_orders "$expected" || fail "only $(count_orders) of $expected orders arrived"
    took=$(calc "$EPOCHREALTIME - $start")
    say "          ($expected orders in $took s, from the start of billing-app)"
    budget_share "billing, draining a backlog from ${1/embedded/our broker}" "$(calc "$expected / $took")" 0.80
}

row_latency() {
    # One that runs already has learnt that there is no broker, and only looks again after a while.
    stop api-gateway
    start_embedded
    start_billing
    start_gateway
    local p50 p99 max
    read -r p50 p99 max < <("$target/debug/examples/order-latency" "127.0.0.1:$GATEWAY_PORT" 500)
    figure "one order, POST to visible row, median and maximum" "$p50 ms" "$max ms"
    budget_at_most "one order, POST to visible row, 99th percentile" "$p99" 5 ms
    stop api-gateway billing-app
    stop_broker
}

row_memory() {
    stop inventory-app api-gateway billing-app
    start_embedded
    start_inventory
    start_billing
    start_gateway
    local name
    budget_at_most "memory idle, broker" "$(pss "$broker_pid")" 5 MiB
    for name in inventory-app billing-app api-gateway; do
        budget_at_most "memory idle, $name" "$(pss "${pid[$name]}")" 5 MiB
        watch_memory "$name" "${pid[$name]}"
    done
    watch_memory embedded "$broker_pid"
    load "$gateway" movie
    load "$gateway" create
    load "$gateway" order
    for name in inventory-app api-gateway; do
        budget_at_most "memory under load, $name" "$(highest "$name")" 12 MiB
    done
    # 200,000 orders and more wait while billing is stopped.
    stop billing-app
    seconds=$((2 * seconds)) load "$gateway" order
    figure "orders that waited for the next two figures" "$answers" ""
    budget_at_most "memory under load, broker" "$(highest embedded)" 24 MiB
    orders_sql "TRUNCATE orders, processed_messages"
    start_billing
    watch_memory billing-app "${pid[billing-app]}"
    wait_for 300 has_orders "$answers" || fail "the backlog was not drained"
    budget_at_most "memory under load, billing-app" "$(highest billing-app)" 12 MiB
    movies_sql "DELETE FROM movies WHERE id > $movies"
    stop billing-app
    connections=250 seconds=4 load "$gateway" movie
    connections=250 seconds=4 load "$inventory" movie
    sleep 45
    for name in inventory-app api-gateway; do
        budget_at_most "memory 45 s after 250 connections, $name" "$(pss "${pid[$name]}")" 8 MiB
    done
    stop api-gateway
    stop_broker
}

row_sizes() {
    local name most
    for name in api-gateway inventory-app billing-app broker; do
        most=2.5
        # It carries its pages with it.
        [[ $name != api-gateway ]] || most=4
        budget_at_most "binary, $name" "$(calc "$(stat -c %s -- "$target/release/$name") / 1048576")" "$most" MiB
    done
}

row_start() {
    stop inventory-app api-gateway billing-app
    start_embedded
    budget_at_most "from start to ready, broker" "$ready_after" 100 ms
    start_inventory
    budget_at_most "from start to ready, inventory-app" "$ready_after" 100 ms
    start_billing
    budget_at_most "from start to ready, billing-app" "$ready_after" 100 ms
    start_gateway
    budget_at_most "from start to ready, api-gateway" "$ready_after" 100 ms
    stop api-gateway billing-app
    stop_broker
}

row_million() {
    stop inventory-app api-gateway
    insert_movies "SELECT 'Movie ' || md5(i::text), 'A film about number ' || i FROM generate_series(1, 900000) i"
    start_inventory
    start_gateway
    watch_memory inventory-app "${pid[inventory-app]}"
    watch_memory api-gateway "${pid[api-gateway]}"
    local received
    # One client that is fast and one that is slow, at the same time.
    curl -sS -m 300 --limit-rate 5M -o /dev/null "$gateway/api/movies?title=Movie" &
    received=$(curl -sS -m 300 "$gateway/api/movies" | wc -c)
    kill $! 2>/dev/null || true
    figure "list of 1,000,000 movies" "$(round "$(calc "$received / 1000000")") MB" ""
    budget_at_most "list of 1,000,000 movies, memory of inventory" "$(highest inventory-app)" 16 MiB
    budget_at_most "list of 1,000,000 movies, memory of the gateway" "$(highest api-gateway)" 16 MiB
    movies_sql "DELETE FROM movies WHERE id > $movies"
    stop api-gateway
}

row_broker() {
    if [[ -x $here/bench-broker.sh ]]; then
        say "Our broker beside RabbitMQ, by scripts/bench-broker.sh:"
        "$here/bench-broker.sh"
    else
        say "There is no scripts/bench-broker.sh."
    fi
}

main "$@"
