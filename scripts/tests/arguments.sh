#!/usr/bin/env bash
# Tests what the scripts do with their arguments, the ports of .env, and the example of load-movies.sh.
set -uo pipefail

# shellcheck source=testing.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/testing.sh"

# Building or installing leaves a trace.
for program in cargo apt-get sudo npm vagrant; do
    make_program "$work/bin/$program" <<<"echo $program >>'$work/called'; exit 1"
done
PATH=$work/bin:$PATH

test_help_does_nothing_else() {
    local script
    for script in "$here"/*.sh "$here/tests/all.sh"; do
        succeeds timeout 10 "$script" --help
        expect "$seen" "*scripts/*$(basename -- "$script")*"
    done
    [[ ! -e $work/called ]] || { cat -- "$work/called" && exit 1; }
}

test_unknown_options_are_errors() {
    local script
    for script in "$here"/*.sh "$here/tests/all.sh"; do
        fails timeout 10 "$script" --nonsense
        expect "$seen" "*--nonsense*--help*"
    done
    [[ ! -e $work/called ]] || { cat -- "$work/called" && exit 1; }
}

test_too_many_arguments_are_errors() {
    local call
    for call in "run.sh list all" "run.sh stop billing_app now" "run.sh logs broker postgres" "smoke.sh http://a http://b" \
        "load-movies.sh - http://a http://b" "torture.sh 1 2 3" "torture.sh many" "bench-broker.sh 1"; do
        # shellcheck disable=SC2086 # these are several words
        fails timeout 10 "$here"/$call
    done
    [[ ! -e $work/called ]] || { cat -- "$work/called" && exit 1; }
}

test_start_and_restart_without_a_name_say_how() {
    local verb
    for verb in start restart; do
        fails "$here/run.sh" "$verb"
        expect "$seen" "run.sh: $verb needs a name: scripts/run.sh $verb NAME; the names are postgres broker *"
    done
}

# A port that the system gives to outgoing connections may be taken at any time.
test_default_ports_are_below_those_of_outgoing_connections() {
    local count=0 line
    while IFS= read -r line; do
        count=$((count + 1))
        ((${line#*=} < 32768)) || { echo "$line" && exit 1; }
    done < <(grep -E '^[A-Z_]+_PORT=' "$here/../.env")
    ((count >= 6)) || { echo "only $count ports" && exit 1; }
}

# Entries as the file has them: titles that are numbers, or missing, and directors and genres that are null.
test_the_example_of_load_movies_makes_movies_of_everything() {
    local filter
    command -v jq >/dev/null || { echo "this needs jq" && exit 1; }
    filter=$("$here/load-movies.sh" --help | sed -n "/--map '/,/}'/p" | tr '\n' ' ' | sed "s/.*--map '\(.*\)'.*/\1/")
    succeeds jq -c "$filter" <<'END'
{"Title": 1776, "Director": null, "Major Genre": "Drama"}
{"Title": "Alien", "Director": "Ridley Scott", "Major Genre": "Horror"}
{"Title": "First Love, Last Rites", "Director": null, "Major Genre": null}
{"Title": null, "Director": "Unknown", "Major Genre": null}
END
    expect "$seen" '{"title":"1776","description":"Drama"}
{"title":"Alien","description":"Ridley Scott, Horror"}
{"title":"First Love, Last Rites","description":""}
{"title":"Untitled","description":"Unknown"}'
}

run_tests
