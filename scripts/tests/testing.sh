# Sourced by the tests of the scripts. Every function whose name begins with test_ is a test: it runs in a shell of its
# own, and fails when that ends with a failure, such as one of expect.
# shellcheck shell=bash

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# What the tests write is here. The user postgres may look in, who runs PostgreSQL for root.
work=$(mktemp -d)
chmod 755 -- "$work"
trap 'rm -rf -- "$work"' EXIT

# The caller's settings must not affect the tests.
for name in $(compgen -e | grep -E '^(GATEWAY|INVENTORY|BILLING|RABBITMQ|BROKER|LOG)_' || true); do
    unset "$name"
done

# run_tests: runs all tests of the calling file, and prints how many passed.
run_tests() {
    local name passed=0 failed=0
    for name in $(compgen -A function test_); do
        if ("$name") >"$work/output" 2>&1; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            printf 'FAILED: %s\n' "$name"
            sed 's/^/    /' "$work/output"
        fi
    done
    printf '%s: %s passed, %s failed\n' "$(basename -- "$0")" "$passed" "$failed"
    ((failed == 0))
}

# expect TEXT PATTERN: fails unless the text matches the shell pattern.
expect() {
    # shellcheck disable=SC2053 # a pattern is wanted
    [[ $1 == $2 ]] || { printf 'expected: %s\nseen:     %s\n' "$2" "$1" && exit 1; }
}

# fails COMMAND…: sets seen to the command's output; fails if the command succeeds.
fails() {
    if seen=$("$@" 2>&1); then
        printf 'this should fail: %s\n%s\n' "$*" "$seen"
        exit 1
    fi
}

# succeeds COMMAND…: the same, but fails if the command fails.
succeeds() {
    if ! seen=$("$@" 2>&1); then
        printf 'this should succeed: %s\n%s\n' "$*" "$seen"
        exit 1
    fi
}

# make_checkout NAME: sets checkout to a folder with a copy of the scripts, which has a platform of its own. What a user
# has made in services/ is not in it.
make_checkout() {
    local folder name
    checkout=$work/$1
    mkdir -p -- "$checkout"
    cp -r -- "$here" "$here"/../{.env,Cargo.toml,Cargo.lock} "$checkout/"
    sed -i 's/^GATEWAY_SERVICES=.*/#GATEWAY_SERVICES=/' "$checkout/.env"
    sed -i '/^    "services\//d' "$checkout/Cargo.toml"
    for folder in "$here"/../services/*/; do
        [[ -d $folder ]] || continue
        name=$(basename -- "$folder")
        sed -i "/^name = \"$name\"\$/d" "$checkout/Cargo.lock"
        # The settings of a service are what is behind its heading, up to the next one.
        HEADING="# --- $name -" awk '
            /^# --- / { inside = index($0, ENVIRON["HEADING"]) == 1 }
            !inside' "$checkout/.env" >"$checkout/.env.without"
        mv -- "$checkout/.env.without" "$checkout/.env"
    done
}

# make_program PATH: an executable of what comes from standard input.
make_program() {
    mkdir -p -- "$(dirname -- "$1")"
    { printf '#!/usr/bin/env bash\n' && cat; } >"$1"
    chmod 755 -- "$1"
}
