# Sourced by run.sh: supervises processes, and takes commands from other shells.
# shellcheck shell=bash

# Under $state_folder: "lock", held while a supervisor lives; "supervisor", its process id; "commands", a folder in which
# every command is a file; "bell", a pipe that wakes the supervisor up; "gateway", where the gateway listens; and a file
# for each process with its state in one line: STATE PID SINCE RESTARTS NEXT, the last being when a process that waits
# is started again, in seconds since 1970.
command_folder=$state_folder/commands
log_folder=$data/logs

# In the order in which they start; they stop in reverse, so that no process loses one it depends on.
names=(postgres broker inventory_app billing_app api_gateway)

# Set by the signals that end the supervisor. The trap only sets this, because bash crashes if a trap that interrupts
# read exits.
stopping=no

declare -A pid=() wanted=() started=() restarts=() delay=() not_before=() log_begin=()

# How long a process may take to stop, in seconds, before it is killed.
stop_limit=15
# A process that dies is restarted at once, then after 1, 2, 4 … seconds, at most this many.
delay_max=30
# How long a command from another shell may take, in seconds: an earlier command may still wait for a process to stop.
command_limit=60
# How long that shell watches whether the started process ends again at once, in seconds.
settle_time=0.7

# supervise: becomes the supervisor of this checkout; there is only one.
supervise() {
    mkdir -p -- "$state_folder" "$log_folder"
    take_lock
    # Commands of an earlier run are discarded.
    rm -rf -- "$command_folder" "$state_folder/bell"
    mkdir -- "$command_folder"
    mkfifo -m 600 -- "$state_folder/bell"
    exec 8<>"$state_folder/bell"
    # From here on it accepts commands.
    printf '%s\n' "$BASHPID" >"$state_folder/supervisor"
    end_leftovers
    rm -f -- "$state_folder"/*.state
}

# take_lock: holds the lock until this shell ends.
take_lock() {
    exec 9>"$state_folder/lock"
    # Retried for a moment, because is_supervised holds the lock briefly.
    flock -w 1 9 || fail "the platform of this checkout runs already; scripts/run.sh list shows it"
}

# is_supervised: whether this checkout's supervisor runs. Takes a shared lock, so that concurrent checks do not take
# each other for the supervisor.
is_supervised() {
    [[ -e $state_folder/lock ]] && ! flock -s -n "$state_folder/lock" true
}

# is_listening: whether the supervisor accepts commands and signals. A killed one leaves its id in the file.
is_listening() {
    local process=''
    [[ ! -r $state_folder/supervisor ]] || read -r process <"$state_folder/supervisor"
    [[ -n $process ]] && ! is_gone "$process"
}

is_unsupervised() { ! is_supervised; }

# has_leftovers: whether a process runs that a killed supervisor has left behind.
has_leftovers() {
    local name process
    for name in "${names[@]}"; do
        ! process_of "$name" || return 0
    done
    return 1
}

# end_leftovers [NAME…]: ends the processes that a killed supervisor has left behind, in the right order.
end_leftovers() {
    local index name process
    for ((index = ${#names[@]} - 1; index >= 0; index--)); do
        name=${names[index]}
        [[ $# == 0 || " $* " == *" $name "* ]] || continue
        process_of "$name" || continue
        say "Ending the $name that an earlier run has left behind."
        pid[$name]=$process
        stop_process "$name"
    done
}

# start_process NAME: starts the command of command_of.
start_process() {
    local name=$1 command=() log=$log_folder/$1.log
    wanted[$name]=yes
    [[ -z ${pid[$name]-} ]] || return 0
    command_of "$name"
    # Keeps the logs of this start and the last big one.
    log_begin[$name]=$(log_size "$name")
    if ((log_begin[$name] > 10485760)); then mv -f -- "$log" "$log.old" && log_begin[$name]=0; fi
    (
        cd "$root" || exit 1
        # Its own session, so that Ctrl-C in the terminal reaches only the supervisor, which stops everything in order.
        CRUD_MASTER_PROCESS=$data/$name exec setsid "${command[@]}" 8>&- 9>&-
    ) </dev/null >>"$log" 2>&1 &
    pid[$name]=$!
    # Otherwise bash would report its end.
    disown "$!"
    started[$name]=$SECONDS
    note "$name" running
}

# log_size NAME: in bytes.
log_size() { stat -c %s -- "$log_folder/$1.log" 2>/dev/null || echo 0; }

# show_log NAME BEGIN: shows the last lines of a log, none before byte BEGIN.
show_log() { tail -c "+$(($2 + 1))" -- "$log_folder/$1.log" 2>/dev/null | tail -n 20; }

# stop_process NAME: asks it to stop, waits, and kills it after the timeout.
stop_process() {
    local name=$1 process=${pid[$1]-} signal=TERM
    wanted[$name]=no
    if [[ -n $process ]]; then
        # On SIGTERM PostgreSQL would wait for its clients; on SIGINT it disconnects them.
        [[ $name != postgres ]] || signal=INT
        kill -"$signal" "$process" 2>/dev/null || true
        if ! wait_for "$stop_limit" is_gone "$process"; then
            say "$name does not leave; killing it."
            kill -KILL "$process" 2>/dev/null || true
            wait_for "$stop_limit" is_gone "$process" || say "$name cannot be killed."
        fi
    fi
    unset "pid[$name]"
    note "$name" stopped
}

# stop_all: stops everything in the right order.
stop_all() {
    local index
    # Not interrupted by failures or a second Ctrl-C.
    set +e
    trap '' INT TERM HUP
    for ((index = ${#names[@]} - 1; index >= 0; index--)); do
        stop_process "${names[index]}"
    done
    rm -f -- "$state_folder/supervisor" "$state_folder/gateway"
}

# note NAME STATE [NEXT]: records the state that list shows.
note() {
    printf '%s %s %(%FT%T)T %s %s\n' "$2" "${pid[$1]:--}" -1 "${restarts[$1]:-0}" "${3:--}" >"$state_folder/$1.new"
    mv -f -- "$state_folder/$1.new" "$state_folder/$1.state"
}

# watch_over NAME: restarts a process that should run but does not.
watch_over() {
    local name=$1 step
    [[ ${wanted[$name]-no} == yes ]] || return 0
    if [[ -n ${pid[$name]-} ]]; then
        is_gone "${pid[$name]}" || return 0
        # One that ran for a while is restarted without delay.
        ((SECONDS - started[$name] < 2 * delay_max)) || delay[$name]=0
        step=${delay[$name]:-0}
        not_before[$name]=$((SECONDS + step))
        delay[$name]=$((step == 0 ? 1 : (2 * step < delay_max ? 2 * step : delay_max)))
        say "$(date +%T) $name has ended by itself; starting it again in $step s. Its log: $log_folder/$name.log"
        unset "pid[$name]"
        restarts[$name]=$((${restarts[$name]:-0} + 1))
        note "$name" waiting $(($(printf '%(%s)T' -1) + step))
    fi
    ((SECONDS < ${not_before[$name]:-0})) || start_process "$name"
}

# has_ended NAME: whether a process that was started has ended by itself.
has_ended() { [[ -n ${pid[$1]-} ]] && is_gone "${pid[$1]}"; }

# watch_over_all: one round: waits a moment for commands and executes them, then checks every process.
watch_over_all() {
    local name
    take_commands
    for name in "${names[@]}"; do
        watch_over "$name"
    done
}

# take_commands: waits for a moment or for the bell, then executes the commands in the folder. A missed ring loses
# nothing, since the folder is read after the moment anyway.
take_commands() {
    local file verb name
    read -r -t 0.2 -u 8 || true
    for file in "$command_folder"/*; do
        [[ -f $file ]] || continue
        read -r verb name <"$file" || true
        printf '%(%T)T %s %s\n' -1 "$verb" "$name"
        case $verb in
            start) start_at_once "$name" ;;
            stop) stop_process "$name" ;;
            restart) stop_process "$name" && start_at_once "$name" ;;
        esac
        # Removing the file tells the sender that the command is done.
        rm -f -- "$file"
    done
}

# start_at_once NAME: starts it, even if it waits for its restart delay.
start_at_once() {
    delay[$1]=0 not_before[$1]=0
    start_process "$1"
}

# send_command start|stop|restart NAME: sends a command to the supervisor and waits until it is done.
send_command() {
    local verb=$1 name=${2//-/_} file=$command_folder/$BASHPID log_end
    is_name "$name"
    if is_unsupervised && has_leftovers; then
        [[ $verb == stop ]] || fail "run.sh was killed and cannot $verb anything; end the rest with scripts/run.sh stop"
        take_lock
        end_leftovers "$name"
        say "$name is stopped."
        return
    fi
    is_supervised || fail "the platform does not run; scripts/run.sh starts it"
    wait_for 5 is_listening || fail "the platform is only starting"
    log_end=$(log_size "$name")
    # Renamed into place, so that it appears complete or not at all.
    printf '%s %s\n' "$verb" "$name" >"$state_folder/$BASHPID.command"
    mv -- "$state_folder/$BASHPID.command" "$file"
    # Opened for reading and writing, because opening for writing alone would block without a supervisor.
    printf '\n' 1<>"$state_folder/bell"
    wait_for "$command_limit" is_done "$file" || fail "the supervisor has not done this for $command_limit s: $verb $name"
    [[ ! -e $file ]] || fail "the platform was stopped before it could $verb $name"
    if [[ $verb == stop ]]; then expect_stopped "$name"; else expect_running "$name" "$log_end"; fi
}

# is_name NAME: fails unless it is one of the processes.
is_name() { [[ " ${names[*]} " == *" $1 "* ]] || fail "there is no ${1:-process without a name}; the names are ${names[*]}"; }

# is_done FILE: whether a command is done, or never will be.
is_done() { [[ ! -e $1 ]] || is_unsupervised; }

expect_stopped() {
    read_state "$1"
    [[ $state == stopped ]] || fail "$1 is still $state"
    say "$1 is stopped."
}

# expect_running NAME LOG_BEGIN: fails unless it runs and does not end again at once.
expect_running() {
    local state process since count next first
    read_state "$1"
    first=$process
    sleep "$settle_time"
    read_state "$1"
    if [[ $state != running || $process != "$first" ]]; then
        show_log "$1" "$2" >&2
        fail "$1 was started and has ended by itself; the log is $log_folder/$1.log"
    fi
    say "$1 is running."
}

# read_state NAME: sets state, process, since, count and next to the recorded state.
read_state() {
    state=stopped process=- since=- count=0 next=-
    [[ ! -e $state_folder/$1.state ]] || read -r state process since count next <"$state_folder/$1.state"
}

# list_processes: a table of all.
list_processes() {
    local name state process since count next remark supervised=yes
    is_supervised || supervised=no
    [[ $supervised == yes ]] || has_leftovers || fail "the platform does not run; scripts/run.sh starts it"
    printf '%-15s %-8s %8s  %-19s %8s\n' name state pid since restarts
    for name in "${names[@]}"; do
        remark=''
        read_state "$name"
        if [[ $supervised == no ]]; then
            # The recorded state may be outdated.
            if process_of "$name"; then state=left; else state=stopped process=-; fi
        elif [[ $state == waiting ]]; then
            remark="  starts in $(seconds_until "$next") s; at once with scripts/run.sh start $name"
        fi
        printf '%-15s %-8s %8s  %-19s %8s%s\n' "$name" "$state" "$process" "${since/T/ }" "$count" "$remark"
    done
    [[ $supervised == yes ]] || say "run.sh was killed and has left these processes; scripts/run.sh stop ends them."
}

# seconds_until TIME: from now, at least 0.
seconds_until() {
    local rest=$(($1 - $(printf '%(%s)T' -1)))
    printf %s $((rest > 0 ? rest : 0))
}

# show_logs [-f] [NAME]: the last lines of one log or of all, and with -f what is added to them until Ctrl-C.
show_logs() {
    local follow=() files=()
    if [[ ${1-} == -f ]]; then follow=(-F) && shift; fi
    (($# <= 1)) || fail "logs takes one name, or none for all; see scripts/run.sh --help"
    if [[ -n ${1-} ]]; then
        is_name "${1//-/_}"
        files=("$log_folder/${1//-/_}.log")
    else
        files=("${names[@]/#/$log_folder/}")
        files=("${files[@]/%/.log}")
    fi
    [[ -e ${files[0]} ]] || fail "there is no ${files[0]} yet"
    tail -n 20 "${follow[@]}" -- "${files[@]}"
}

# stop_supervisor: ends the whole platform from another shell.
stop_supervisor() {
    if is_supervised; then
        wait_for 5 is_listening || fail "the platform is only starting"
        kill -TERM "$(<"$state_folder/supervisor")"
        wait_for $((stop_limit * ${#names[@]})) is_unsupervised || fail "the platform still runs"
    else
        has_leftovers || fail "the platform does not run"
        take_lock
        end_leftovers
    fi
    say "Stopped."
}
