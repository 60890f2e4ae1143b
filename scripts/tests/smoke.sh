#!/usr/bin/env bash
# Tests where smoke.sh and load-movies.sh send their requests, and what smoke.sh deletes, with a curl that only records
# requests.
set -uo pipefail

# shellcheck source=testing.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/testing.sh"
# shellcheck source=../lib/project.sh
. "$here/lib/project.sh"

# It records METHOD URL, and answers every request with $STATUS and $BODY.
make_program "$work/bin/curl" <<'END'
method=GET output=/dev/null
while (($# > 0)); do
    case $1 in
        -X) method=$2 && shift ;;
        -o) output=$2 && shift ;;
        -K) printf '%s\n' "$(<"$2")" >>"$NOTES" && exit ;;
        http*) url=$1 ;;
    esac
    shift
done
printf '%s %s\n' "$method" "$url" >>"$NOTES"
printf '%s' "$BODY" >"$output"
printf '%s' "$STATUS"
END
PATH=$work/bin:$PATH
export NOTES=$work/notes STATUS=200 BODY=''

# run_gateway FOLDER URL: a process that looks as if run.sh had started a gateway in that checkout.
run_gateway() {
    CRUD_MASTER_PROCESS=$1/.data/api_gateway sleep 100 &
    disown
    # shellcheck disable=SC2064 # this process
    trap "kill $!" EXIT
    mkdir -p -- "$1/.data/run"
    printf 'running %s - 0 -\n' "$!" >"$1/.data/run/api_gateway.state"
    printf '%s\n' "$2" >"$1/.data/run/gateway"
    wait_for 30 grep -qzxF "CRUD_MASTER_PROCESS=$1/.data/api_gateway" "/proc/$!/environ"
}

test_a_url_that_is_none_is_an_error() {
    local url
    rm -f -- "$NOTES"
    for url in localhost:3000 127.0.0.1 ftp://localhost http:// http:///path 'http://local host' '' 'http://a?b'; do
        fails "$here/smoke.sh" "$url"
        expect "$seen" "smoke.sh: '$url' is no URL; *"
        fails "$here/load-movies.sh" - "$url" </dev/null
        expect "$seen" "load-movies.sh: '$url' is no URL; *"
    done
    [[ ! -e $NOTES ]] || fail "there were requests"
}

test_without_a_platform_there_is_no_request() {
    make_checkout second
    rm -f -- "$NOTES"
    fails "$checkout/scripts/smoke.sh"
    expect "$seen" "*the gateway of this checkout does not run*"
    # The state of an earlier run is ignored.
    mkdir -p -- "$checkout/.data/run"
    echo http://127.0.0.1:1 >"$checkout/.data/run/gateway"
    echo "running $$ - 0 -" >"$checkout/.data/run/api_gateway.state"
    fails "$checkout/scripts/load-movies.sh" - <<<'{"title": "t"}'
    expect "$seen" "*the gateway of this checkout does not run*"
    [[ ! -e $NOTES ]] || fail "there were requests"
}

test_smoke_finds_the_platform_of_its_checkout() {
    make_checkout third
    run_gateway "$checkout" http://127.0.0.1:3003
    rm -f -- "$NOTES"
    fails "$checkout/scripts/smoke.sh"
    expect "$(<"$NOTES")" "GET http://127.0.0.1:3003/health*"
    fails grep -v ' http://127.0.0.1:3003/' "$NOTES"
}

test_load_movies_finds_the_platform_of_its_checkout() {
    make_checkout fourth
    run_gateway "$checkout" http://127.0.0.1:3004
    rm -f -- "$NOTES"
    fails "$checkout/scripts/load-movies.sh" - <<<'{"title": "t"}'
    expect "$(<"$NOTES")" '*url = "http://127.0.0.1:3004/api/movies"*'
}

# The path of one movie without its id is that of all movies.
test_smoke_deletes_nothing_when_it_could_not_create() {
    local option
    for option in '' --delete-all; do
        rm -f -- "$NOTES"
        STATUS=503 BODY='{"error":"down"}' fails "$here/smoke.sh" ${option:+"$option"} http://127.0.0.1:3005
        expect "$seen" "*no movie was created*"
        fails grep DELETE "$NOTES"
    done
}

test_smoke_deletes_only_its_own_movie() {
    local option
    for option in '' --delete-all; do
        rm -f -- "$NOTES"
        BODY='{"id":17,"title":"t","description":""}' fails "$here/smoke.sh" ${option:+"$option"} http://127.0.0.1:3006
        expect "$(grep 'DELETE .*/api/movies' "$NOTES" | sort -u)" "DELETE http://127.0.0.1:3006/api/movies/17"
    done
}

run_tests
