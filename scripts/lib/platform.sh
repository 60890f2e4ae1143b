# Sourced by scripts that use the platform of this checkout: where its processes are, and where its gateway listens.
# shellcheck shell=bash

# The state files of run.sh; lib/supervisor.sh describes them.
state_folder=$data/run

# process_of NAME: sets process to the id of the process that run.sh has started as NAME; fails when it does not run.
# The process may have ended and its id been reused; our processes are recognised by their environment.
process_of() {
    local state=stopped rest
    process=-
    [[ -r $state_folder/$1.state ]] || return 1
    read -r state process rest <"$state_folder/$1.state" || return 1
    [[ $state == running ]] && grep -qzxF "CRUD_MASTER_PROCESS=$data/$1" "/proc/$process/environ" 2>/dev/null
}

# find_gateway [URL]: sets url to URL, else to the address of this checkout's gateway. It does not assume the default
# port, where the platform of another checkout may listen.
# shellcheck disable=SC2034 # the caller reads url
find_gateway() {
    local process
    if (($# > 0)); then
        [[ $1 =~ ^https?://[^/?#[:space:]]+(/[^?#[:space:]]*)?$ ]] ||
            fail "'$1' is no URL; a gateway's begins with http://, such as http://127.0.0.1:3000"
        url=${1%/}
    elif process_of api_gateway && [[ -s $state_folder/gateway ]]; then
        url=$(<"$state_folder/gateway")
    else
        fail "the gateway of this checkout does not run; start it with scripts/run.sh, or name another by its URL"
    fi
}
