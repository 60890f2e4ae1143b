#!/usr/bin/env bash
# The quality gate: everything that has to hold before a change is accepted. Installs what is missing, and says so first.
#
#   scripts/test.sh             Rust and shell: format, lints, documentation, all tests; a few minutes
#   scripts/test.sh --all       the rest as well, as continuous integration runs it: dependencies, the Vagrantfile, pika
#                               and amqplib against our broker, the documents in docs/, a generated service, and
#                               --rabbitmq
#   scripts/test.sh --rabbitmq  only the system tests, pika and amqplib with RabbitMQ in place of our own broker
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

target=${CARGO_TARGET_DIR:-$root/target}

# step NAME COMMAND…: runs one part of the gate, says which, and how long it took.
step() {
    local name=$1 start=$SECONDS
    shift
    say "== $name"
    "$@" || fail "this failed: $*"
    say "== $name: $((SECONDS - start)) s"
}

# beside NAME COMMAND…: begins one part of the gate beside the next ones; what it prints is shown by finish_beside.
beside() {
    beside_output=$(mktemp)
    trap end_beside EXIT
    trap 'exit 130' INT TERM HUP
    say "== $1, beside what follows"
    step "$@" >"$beside_output" 2>&1 &
    beside_pid=$!
}

# finish_beside: waits for the part that beside began.
finish_beside() {
    local status=0
    wait "$beside_pid" || status=$?
    beside_pid=''
    cat -- "$beside_output"
    rm -f -- "$beside_output"
    ((status == 0)) || exit 1
}

# end_beside: ends that part when the gate ends before it.
beside_pid='' beside_output=''
end_beside() {
    [[ -n $beside_pid ]] || return 0
    # The command that it runs cleans up after itself, and its shell waits for that.
    pkill -TERM -P "$beside_pid" || true
    wait "$beside_pid" || true
    cat -- "$beside_output"
    rm -f -- "$beside_output"
}

main() {
    cd "$root"
    # Tests open many connections.
    ulimit -n "$(ulimit -Hn)" || true
    (($# <= 1)) || fail "too many arguments; see scripts/test.sh --help"
    case ${1-} in
        -h | --help) show_help ;;
        '')
            prepare "${needs_gate[@]}"
            gate
            say "== the gate is passed, after $SECONDS s; scripts/test.sh --all checks the rest"
            ;;
        --all)
            name_tools tools docs-tools broker-clients
            prepare "${needs_gate[@]}" "${needs_vagrant[@]}" "${needs_clients[@]}" "${needs_docs[@]}" "${needs_rabbitmq[@]}"
            # For the tests of the supervisor.
            export COMMANDS=1000
            whole_gate
            tell_sizes tools docs-tools broker-clients
            say "== the whole gate is passed, after $SECONDS s"
            ;;
        --rabbitmq)
            name_tools broker-clients
            prepare cc postgres "${needs_clients[@]}" "${needs_rabbitmq[@]}"
            rabbitmq
            tell_sizes broker-clients
            say "== the system tests pass with RabbitMQ"
            ;;
        *) fail "unknown option $1; see scripts/test.sh --help" ;;
    esac
}

# prepare PROGRAM…: installs what is needed, before anything is built.
prepare() {
    need_cargo
    need "$@"
    need_component rustfmt
    need_component clippy
}

# name_tools FOLDER…: says which tools, beside Debian's packages, the checks are going to install into these folders of
# the target folder. Those that are there are not installed again.
name_tools() {
    local folder
    for folder; do
        [[ ! -e $target/$folder ]] || continue
        case $folder in
            tools) command -v cargo-deny >/dev/null || say "$target/tools will get cargo-deny, by cargo: about 110 MB." ;;
            docs-tools) say "$target/docs-tools will get the tools for the documents, by npm and pip: about 410 MB." ;;
            broker-clients) say "$target/broker-clients will get pika and amqplib, by pip and npm: about 30 MB." ;;
        esac
    done
}

# tell_sizes FOLDER…: says how large these folders are.
tell_sizes() {
    local folder
    for folder; do
        [[ ! -e $target/$folder ]] || say "$target/$folder has $(du -sh -- "$target/$folder" | cut -f1)."
    done
}

gate() {
    lints
    tests
}

# Two parts at a time from the tests on: one mostly builds, or waits, while the other one works.
whole_gate() {
    lints
    # A new service begins with a copy of what is built, which must not change meanwhile.
    step "build of the tests" cargo test --quiet --locked --workspace --no-run
    beside "dependencies and a new service" dependencies_and_new_service
    tests
    finish_beside
    beside "everything with RabbitMQ" rabbitmq
    step "virtual machines" scripts/check-vagrant.sh
    step "independent clients and our broker" scripts/test-broker-clients.sh
    step "documentation against the running system" scripts/check-docs.sh
    finish_beside
}

lints() {
    step "format" cargo fmt --all --check
    step "shell scripts" shellcheck --check-sourced scripts/*.sh scripts/tests/*.sh \
        scripts/lib/install-packages.sh broker/tests/clients/*.sh .ci/run
    step "lints" cargo clippy --locked --workspace --all-targets -- -D warnings
    step "documentation" env RUSTDOCFLAGS="-D warnings" \
        cargo doc --locked --workspace --no-deps --document-private-items
}

tests() {
    step "tests" cargo test --locked --workspace
    step "tests of the scripts" scripts/tests/all.sh
}

dependencies_and_new_service() {
    step "dependencies" scripts/check-dependencies.sh
    step "a new service" scripts/test-new-service.sh
}

rabbitmq() {
    # RabbitMQ starts slowly and takes much memory, so limit the parallel tests.
    step "system tests with RabbitMQ" \
        env SYSTEM_TESTS_RABBITMQ=1 cargo test --locked --package system-tests -- --test-threads=2
    step "independent clients and RabbitMQ" scripts/test-broker-clients.sh --rabbitmq
}

main "$@"
