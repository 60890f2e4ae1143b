# Sourced by run.sh: processes that are kept running, and the commands that other shells send to their supervisor.
# shellcheck shell=bash

# Under $data/run: "lock", held while a supervisor lives; "control", a pipe that takes commands; and a file for each
# process with its state in one line: STATE PID START RESTARTS.
state_folder=$data/run
log_folder=$data/logs

# In the order in which they start; they stop in the opposite order, so that nobody loses what it stands on.
names=(postgres broker inventory_app billing_app api_gateway)

# Set by the signals that end the supervisor. They only set it, because bash does not survive an exit out of a trap
# that interrupts read.
stopping=no

declare -A pid=() wanted=() started=() restarts=() delay=() not_before=()

# How long a process may take to leave when asked, in seconds, before it is killed.
stop_limit=15
# A process that dies is started again at once, then after 1, 2, 4 … seconds, at most this many.
delay_max=30

# supervise: becomes the one supervisor of this checkout.
supervise() {
    mkdir -p -- "$state_folder" "$log_folder"
    exec 9>"$state_folder/lock"
    # A moment's patience, because looking whether a supervisor runs takes the lock for a moment.
    flock -w 1 9 || fail "the platform of this checkout runs already; scripts/run.sh list shows it"
    rm -f -- "$state_folder/control"
    mkfifo -m 600 -- "$state_folder/control"
    exec 8<>"$state_folder/control"
    end_leftovers
    printf '%s\n' "$$" >"$state_folder/supervisor"
}

# is_supervised: whether this checkout's supervisor runs.
is_supervised() {
    [[ -e $state_folder/lock ]] && ! flock -n "$state_folder/lock" true
}

# Ends what a supervisor that was killed has left running.
end_leftovers() {
    local file name state process rest
    for file in "$state_folder"/*.state; do
        [[ -e $file ]] || continue
        name=$(basename -- "$file" .state)
        read -r state process rest <"$file" || continue
        # The process may be gone and its id somebody else's; ours says whose it is by its environment.
        if [[ $state == running ]] && grep -qzxF "CRUD_MASTER_PROCESS=$data/$name" "/proc/$process/environ" 2>/dev/null; then
            say "Ending the $name that an earlier run has left behind."
            pid[$name]=$process
            stop_process "$name"
        fi
        rm -f -- "$file"
    done
}

# start_process NAME: starts what command_of says.
start_process() {
    local name=$1 command=() log=$log_folder/$1.log
    wanted[$name]=yes
    [[ -z ${pid[$name]-} ]] || return 0
    command_of "$name"
    # Keeps the logs of this start and the last big one.
    if [[ -f $log && $(stat -c %s -- "$log") -gt 10485760 ]]; then mv -f -- "$log" "$log.old"; fi
    (
        cd "$root" || exit 1
        # Its own session, so that Ctrl-C in the terminal reaches the supervisor alone, which keeps the order.
        CRUD_MASTER_PROCESS=$data/$name exec setsid "${command[@]}" 8>&- 9>&-
    ) </dev/null >>"$log" 2>&1 &
    pid[$name]=$!
    # Or bash would report its end in its own words.
    disown "$!"
    started[$name]=$SECONDS
    note "$name" running
}

# stop_process NAME: asks it to leave, waits until it has, kills it when it does not.
stop_process() {
    local name=$1 process=${pid[$1]-} signal=TERM
    wanted[$name]=no
    if [[ -n $process ]]; then
        # SIGTERM would have PostgreSQL wait for its clients; SIGINT sends them away.
        [[ $name != postgres ]] || signal=INT
        kill -"$signal" "$process" 2>/dev/null || true
        if ! wait_for "$stop_limit" is_gone "$process"; then
            say "$name does not leave; killing it."
            kill -KILL "$process" 2>/dev/null || true
        fi
    fi
    unset "pid[$name]"
    note "$name" stopped
}

# stop_all: stops everything in the right order.
stop_all() {
    local index
    # Nothing keeps this from its end, no failure and no second Ctrl-C.
    set +e
    trap '' INT TERM HUP
    for ((index = ${#names[@]} - 1; index >= 0; index--)); do
        stop_process "${names[index]}"
    done
}

# note NAME STATE: writes down what list shows.
note() {
    printf '%s %s %s %s\n' "$2" "${pid[$1]:--}" "$(date +%FT%T)" "${restarts[$1]:-0}" >"$state_folder/$1.new"
    mv -f -- "$state_folder/$1.new" "$state_folder/$1.state"
}

# watch_over NAME: starts a process again that should run and does not.
watch_over() {
    local name=$1 step
    [[ ${wanted[$name]-no} == yes ]] || return 0
    if [[ -n ${pid[$name]-} ]]; then
        is_gone "${pid[$name]}" || return 0
        # One that ran for a while has earned a fresh start.
        ((SECONDS - started[$name] < 2 * delay_max)) || delay[$name]=0
        step=${delay[$name]:-0}
        not_before[$name]=$((SECONDS + step))
        delay[$name]=$((step == 0 ? 1 : (2 * step < delay_max ? 2 * step : delay_max)))
        say "$(date +%T) $name has ended by itself; starting it again in $step s. Its log: $log_folder/$name.log"
        unset "pid[$name]"
        restarts[$name]=$((${restarts[$name]:-0} + 1))
        note "$name" waiting
    fi
    ((SECONDS < ${not_before[$name]:-0})) || start_process "$name"
}

# watch_over_all: one round: a command, if one comes within the moment this waits, then every process.
watch_over_all() {
    local verb name
    if read -r -t 0.2 -u 8 verb name; then
        say "$(date +%T) $verb $name"
        case $verb in
            start) delay[$name]=0 not_before[$name]=0 && start_process "$name" ;;
            stop) stop_process "$name" ;;
        esac
    fi
    for name in "${names[@]}"; do
        watch_over "$name"
    done
}

# send_command start|stop NAME: has the supervisor do it and waits until it has.
send_command() {
    local verb=$1 name=${2//-/_} expected=running
    [[ " ${names[*]} " == *" $name "* ]] || fail "there is no $name; the names are ${names[*]}"
    is_supervised || fail "the platform does not run; scripts/run.sh starts it"
    [[ $verb == start ]] || expected=stopped
    printf '%s %s\n' "$verb" "$name" >"$state_folder/control"
    wait_for $((stop_limit + 5)) has_state "$name" "$expected" || fail "$name is still not $expected"
    say "$name is $expected."
}

has_state() {
    local state rest
    read -r state rest <"$state_folder/$1.state" && [[ $state == "$2" ]]
}

# list_processes: a table of all.
list_processes() {
    local name state process start count
    is_supervised || fail "the platform does not run; scripts/run.sh starts it"
    printf '%-15s %-8s %8s  %-19s %8s\n' name state pid since restarts
    for name in "${names[@]}"; do
        state=stopped process=- start=- count=0
        [[ ! -e $state_folder/$name.state ]] || read -r state process start count <"$state_folder/$name.state"
        printf '%-15s %-8s %8s  %-19s %8s\n' "$name" "$state" "$process" "${start/T/ }" "$count"
    done
}

# stop_supervisor: ends the whole platform from another shell.
stop_supervisor() {
    is_supervised || fail "the platform does not run"
    kill -TERM "$(<"$state_folder/supervisor")"
    wait_for 60 is_unsupervised || fail "the platform still runs"
    say "Stopped."
}

is_unsupervised() { ! is_supervised; }
