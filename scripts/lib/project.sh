# Sourced by the scripts: the project's folder, messages, and the settings.
# shellcheck shell=bash

# Before anything that an older one cannot read. macOS has 3.2.
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
    echo "this script needs bash 4.4 or newer, and this is $BASH_VERSION. On macOS: brew install bash" >&2
    exit 1
fi

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
# The folder for all run-time data; git ignores it.
# shellcheck disable=SC2034 # the scripts that source this file use it
data=$root/.data

# glibc's allocator gives a process up to 8 arenas for each processor, and every thread a cache of its own; all of them
# keep what was freed. With two arenas and no caches the services are as fast here, and keep 3 to 4 MiB less after many
# connections.
# shellcheck disable=SC2030,SC2031 # the tests source this in subshells
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.arena_max=2:glibc.malloc.tcache_count=0}

say() { printf '%s\n' "$*"; }

fail() {
    printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2
    exit 1
}

# The comment at the top of a script is its help.
show_help() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$0"; }

# shellcheck source=settings.sh
. "$root/scripts/lib/settings.sh"
# shellcheck source=services.sh
. "$root/scripts/lib/services.sh"

# same NAME OTHER: two settings of one thing, such as a server's port and its client's. When the environment or .env.local
# gives one of them, the other follows.
same() {
    local name=$1 other=$2
    if [[ -v given[$other] && ! -v given[$name] ]]; then
        export "$name=${!other}"
    elif [[ ! -v given[$other] ]]; then
        export "$other=${!name}"
    fi
}

# wait_for SECONDS COMMAND…: polls until the command succeeds; fails when it still does not after that time.
wait_for() {
    local deadline=$((SECONDS + $1)) tries=0
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        # Most waits are short.
        if ((++tries <= 10)); then sleep 0.01; else sleep 0.1; fi
    done
}

# port_is_open HOST PORT: whether a program listens there.
port_is_open() {
    local host=$1
    [[ $host != 0.0.0.0 && $host != '[::]' && $host != '::' ]] || host=127.0.0.1
    (exec 3<>"/dev/tcp/$host/$2") 2>/dev/null
}

# is_gone PID: whether the process has ended, even if its parent has not reaped it yet.
is_gone() {
    local stat=''
    kill -0 "$1" 2>/dev/null || return 0
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || true
    # The name, in parentheses, may contain anything; the state follows it.
    [[ ${stat##*) } == Z* ]]
}
