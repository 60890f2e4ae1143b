#!/usr/bin/env bash
# Tests lib/supervisor.sh with processes that only sleep. COMMANDS (200) is how many commands one after another must
# arrive.
set -uo pipefail

# shellcheck source=testing.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/testing.sh"
# shellcheck source=../lib/project.sh
. "$here/lib/project.sh"
data=$work/data
# shellcheck source=../lib/platform.sh
. "$here/lib/platform.sh"
# shellcheck source=../lib/supervisor.sh
. "$here/lib/supervisor.sh"

names=(first second third)
settle_time=0

# What the supervisor runs. A process with a file of this name ends at its start.
# shellcheck disable=SC2034 # start_process reads it
command_of() { command=(sh -c "echo hello from $1; test -e '$work/broken-$1' && echo '$1 is broken' || exec sleep 1000"); }

# supervised [COMMAND…]: becomes a supervisor in the background, after the command.
supervised() {
    (
        set -e
        supervise
        trap stop_all EXIT
        trap 'stopping=yes' TERM
        "${@:-true}"
        for name in "${names[@]}"; do start_process "$name"; done
        echo started
        while [[ $stopping == no ]]; do watch_over_all; done
    ) >>"$work/supervisor.log" 2>&1 &
    disown
    trap end_all EXIT
    # An earlier supervisor may have left processes behind.
    wait_for 30 grep -q '^started$' "$work/supervisor.log" || fail "there is no supervisor"
}

# end_all: whatever a test leaves behind.
end_all() {
    (stop_supervisor) >/dev/null 2>&1
    rm -rf -- "$data" "$work"/broken-* "$work/supervisor.log"
}

kill_supervisor() {
    local name
    # A process can be told from others once it runs its program.
    for name in "${names[@]}"; do id_of "$name" >/dev/null; done
    kill -KILL "$(<"$state_folder/supervisor")"
    wait_for 30 is_unsupervised || fail "kill -9 does not kill"
}

id_of() {
    wait_for 30 process_of "$1" || fail "$1 does not run"
    printf %s "$process"
}

test_no_command_is_lost() {
    local count=${COMMANDS:-200} index
    supervised
    for ((index = 0; index < count / 2; index++)); do
        succeeds send_command stop first
        expect "$seen" "first is stopped."
        succeeds send_command start first
        expect "$seen" "first is running."
    done
    expect "$(grep -c ' stop first$' "$work/supervisor.log")" $((count / 2))
    expect "$(grep -c ' start first$' "$work/supervisor.log")" $((count / 2))
}

test_commands_of_several_shells_at_once() {
    local name index
    supervised
    for index in 1 2 3 4; do
        for name in "${names[@]}"; do (send_command restart "$name") & done
    done
    wait
    for name in "${names[@]}"; do
        expect "$(grep -c " restart $name$" "$work/supervisor.log")" 4
    done
}

test_restart_is_another_process() {
    local before after
    supervised
    before=$(id_of first)
    succeeds send_command restart first
    wait_for 30 process_of first
    after=$(id_of first)
    [[ $before != "$after" ]] || fail "the same process"
    is_gone "$before" || fail "the old process is still there"
}

test_a_process_that_waits_is_listed_and_started_at_once() {
    touch -- "$work/broken-second"
    supervised eval 'delay[second]=20'
    wait_for 30 grep -q ^waiting "$state_folder/second.state"
    succeeds list_processes
    expect "$seen" "*second *waiting * starts in [12][0-9] s; at once with scripts/run.sh start second*"
    rm -- "$work/broken-second"
    succeeds send_command start second
    expect "$seen" "second is running."
}

test_a_process_that_ends_at_its_start_is_told_with_its_log() {
    supervised
    settle_time=0.7
    succeeds send_command stop second
    touch -- "$work/broken-second"
    fails send_command start second
    expect "$seen" "*hello from second*second is broken*has ended by itself; the log is *"
}

test_a_process_that_dies_is_started_again() {
    local before
    supervised
    before=$(id_of third)
    kill -KILL "$before"
    wait_for 30 is_gone "$before"
    wait_for 30 process_of third
    succeeds list_processes
    expect "$seen" "*third *running * 1"
}

test_what_a_killed_supervisor_leaves_is_listed_and_stopped() {
    local left name
    supervised
    left=$(id_of first)
    kill_supervisor
    succeeds list_processes
    expect "$seen" "*first *left *$left *run.sh was killed*"
    fails send_command start first
    expect "$seen" "*run.sh was killed*"
    succeeds send_command stop third
    fails process_of third
    succeeds stop_supervisor
    for name in "${names[@]}"; do
        fails process_of "$name"
    done
    is_gone "$left" || fail "the process is still there"
    fails list_processes
}

test_a_new_supervisor_ends_what_a_killed_one_left() {
    local left
    supervised
    left=$(id_of first)
    kill_supervisor
    rm -- "$work/supervisor.log"
    supervised
    is_gone "$left" || fail "the process is still there"
    succeeds send_command stop first
}

test_there_is_one_supervisor() {
    supervised
    fails supervise
    expect "$seen" "*runs already*"
}

test_nothing_runs() {
    fails list_processes
    fails stop_supervisor
    fails send_command start first
    expect "$seen" "*the platform does not run*"
}

test_names() {
    supervised
    fails send_command start fourth
    expect "$seen" "*there is no fourth; the names are first second third"
}

test_logs() {
    supervised
    succeeds show_logs first
    expect "$seen" "hello from first"
    succeeds show_logs
    expect "$seen" "*hello from first*hello from third*"
    fails show_logs fourth
    fails show_logs first second
    fails show_logs --nonsense
}

run_tests
