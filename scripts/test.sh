#!/usr/bin/env bash
# The quality gate: everything that has to hold before a change is accepted. Installs what is missing.
#
#   scripts/test.sh             format, lints, documentation, shell scripts, all tests, pika and amqplib against our
#                               broker, and scripts/check-docs.sh
#   scripts/test.sh --rabbitmq  the system tests, pika and amqplib again, with RabbitMQ in place of our own broker
#
# The tests start their own PostgreSQL and RabbitMQ on free ports and in temporary folders, and remove them.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"
# shellcheck source=lib/postgres.sh
. "$here/lib/postgres.sh"

# step NAME COMMAND…: runs one part of the gate and says which.
step() {
    say "== $1"
    shift
    "$@" || fail "this failed: $*"
}

main() {
    cd "$root"
    # Tests hold many connections.
    ulimit -n "$(ulimit -Hn)" || true
    case ${1-} in
        '') gate ;;
        --rabbitmq) rabbitmq ;;
        -h | --help) show_help ;;
        *) fail "unknown option $1; see scripts/test.sh --help" ;;
    esac
}

gate() {
    need_rust
    need postgres shellcheck curl git
    need_component rustfmt
    need_component clippy
    step "format" cargo fmt --all --check
    step "shell scripts" shellcheck --check-sourced scripts/*.sh .ci/run
    step "virtual machines" scripts/check-vagrant.sh
    step "lints" cargo clippy --locked --workspace --all-targets -- -D warnings
    step "documentation" env RUSTDOCFLAGS="-D warnings" \
        cargo doc --locked --workspace --no-deps --document-private-items
    step "tests" cargo test --locked --workspace
    step "independent clients and our broker" scripts/test-broker-clients.sh
    step "documentation against the running system" scripts/check-docs.sh
    say "== the gate is passed"
}

rabbitmq() {
    need_rust
    need postgres rabbitmq-server
    # RabbitMQ is slow to start and eager with memory: not too many at once.
    step "system tests with RabbitMQ" \
        env SYSTEM_TESTS_RABBITMQ=1 cargo test --locked --package system-tests -- --test-threads=2
    step "independent clients and RabbitMQ" scripts/test-broker-clients.sh --rabbitmq
    say "== the system tests pass with RabbitMQ"
}

main "$@"
