#!/usr/bin/env bash
# Measures our broker beside Debian's RabbitMQ: the same client, the same disk, the same run, each broker alone.
#
#   scripts/bench-broker.sh
#
# Confirmed persistent 60-byte messages per second at windows 1, 100 and 1,000, consumption at prefetch 100, memory
# with a backlog, and for ours the times of an empty start and of a recovery. BENCH_SECONDS (5) is the length of each
# load, BENCH_BACKLOG (1000000) the backlog, BENCH_PACED (6000) how many confirms are awaited one by one, 50 a second.
# Without rabbitmq-server only ours is measured.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/brokers.sh
. "$here/lib/brokers.sh"

case ${1-} in
    '') ;;
    -h | --help)
        show_help
        exit
        ;;
    *) fail "unknown argument $1; see scripts/bench-broker.sh --help" ;;
esac
seconds=${BENCH_SECONDS:-5}
backlog=${BENCH_BACKLOG:-1000000}
paced=${BENCH_PACED:-6000}
target=${CARGO_TARGET_DIR:-$root/target}
# On the disk of the project, not on a tmpfs.
mkdir -p "$root/.data"
work=$(mktemp -d "$root/.data/bench-broker.XXXXXX")
trap 'stop_started; rm -rf "$work"' EXIT

bench() {
    "$target/release/examples/amqp-bench" "127.0.0.1:$broker_port" "$broker_user" "$broker_password" "$@"
}

# memory: PSS in MiB of the broker's process and its children.
memory() {
    local total=0 process
    for process in "$broker_pid" $(pgrep -P "$broker_pid" || true); do
        total=$((total + $(awk '/^Pss:/ {print $2}' "/proc/$process/smaps_rollup" 2>/dev/null || echo 0)))
    done
    awk -v kib="$total" 'BEGIN {printf "%.1f", kib / 1024}'
}

now_ms() {
    local now=${EPOCHREALTIME/[.,]/}
    printf %s "$((now / 1000))"
}

# cpu_ms: the time that the broker's process has used the processors.
cpu_ms() {
    awk -v hz="$(getconf CLK_TCK)" '{sub(/.*\) /, ""); printf "%.0f", ($12 + $13) * 1000 / hz}' "/proc/$broker_pid/stat"
}

# shared QUEUES: processor time in ms for draining 20 MB that as many queues share; the mean of five drains, because the
# kernel counts in steps of 10 ms.
shared() {
    local before total=0
    for _ in 1 2 3 4 5; do
        bench spread "shared-$1" "$1" 20000
        before=$(cpu_ms)
        bench gather "shared-$1" "$1" 20000
        total=$((total + $(cpu_ms) - before))
    done
    printf %s "$((total / 5))"
}

# slowest: the longest wait for a confirm in ms, while others fill, drain and purge about twice a second, so that the
# log is merged.
slowest() {
    touch "$work/paced"
    while [[ -e $work/paced ]]; do
        bench fill busy 20000
        bench drain busy 100 15000
        bench purge busy
        sleep 0.3
    done >/dev/null &
    bench paced paced "$paced" 50 | cut -d' ' -f3
    rm "$work/paced"
    wait "$!"
}

# measure NAME: fills figure[NAME …] from the broker that runs.
declare -A figure=()
measure() {
    local window
    figure[$1 idle]=$(memory)
    for window in 1 100 1000; do
        figure[$1 $window]=$(bench confirms "window-$window" "$window" "$seconds")
        bench purge "window-$window"
    done
    figure[$1 fill]=$(bench fill backlog "$backlog")
    figure[$1 memory]=$(memory)
}

cd "$root"
cargo build --quiet --release --package broker --bin broker --example amqp-bench

started=$(now_ms)
start_own "$target/release/broker" "$work/own"
figure[start]=$(($(now_ms) - started))
measure own
{ kill -9 "$broker_pid" && wait "$broker_pid"; } 2>/dev/null || true
started=$(now_ms)
start_own "$target/release/broker" "$work/own"
figure[recovery]=$(($(now_ms) - started))
figure[own recovered]=$(memory)
figure[own drain]=$(bench drain backlog 100 "$backlog") || { cat "$work/own.log"; exit 1; }
figure[own drained]=$(memory)
figure[shared 1]=$(shared 1)
figure[shared 400]=$(shared 400)
figure[slowest]=$(slowest)
stop_started

rabbitmq=no
if start_rabbitmq "$work/rabbitmq"; then
    rabbitmq=yes
    measure rabbitmq
    figure[rabbitmq drain]=$(bench drain backlog 100 "$backlog")
    stop_started
fi

# row TITLE KEY: ours, RabbitMQ's, and the ratio.
row() {
    local own=${figure[own $2]:--} other=${figure[rabbitmq $2]:--} ratio=-
    [[ $other == - ]] || ratio=$(awk -v a="$own" -v b="$other" 'BEGIN {printf "%.1f", a / (b > 0 ? b : 1)}')
    printf '%-52s %12s %12s %8s\n' "$1" "$own" "$other" "$ratio"
}

printf '%-52s %12s %12s %8s\n' "broker, $seconds s per load" ours RabbitMQ ratio
row "confirmed messages/s, window 1       (ratio >= 3)" 1
row "confirmed messages/s, window 100     (ratio >= 20)" 100
row "confirmed messages/s, window 1,000   (ratio >= 30)" 1000
row "publishing a backlog of $backlog, messages/s" fill
row "draining it at prefetch 100, messages/s" drain
row "memory idle, MiB                     (<= 5)" idle
row "memory with the backlog, MiB         (<= 24)" memory
printf '%-52s %12s\n' "memory after recovering the backlog, MiB (<= 24)" "${figure[own recovered]}"
printf '%-52s %12s\n' "start with an empty folder, ms       (<= 50)" "${figure[start]}"
printf '%-52s %12s\n' "start with the backlog, ms           (<= 2000)" "${figure[recovery]}"
printf '%-52s %12s\n' "processor time to drain 20 MB of 1 queue, ms" "${figure[shared 1]}"
printf '%-52s %12s\n' "the same of 400 queues, ms       (<= 3 times that)" "${figure[shared 400]}"
printf '%-52s %12s\n' "slowest of $paced confirms, others filling, ms (< 100)" "${figure[slowest]}"
[[ $rabbitmq == yes ]] || printf 'RabbitMQ was not measured: rabbitmq-server is not installed.\n'
