#!/usr/bin/env bash
# Tests every endpoint of a running gateway, and what it refuses, with curl; also the list of each service that
# GATEWAY_SERVICES names and that has a database here.
#
#   scripts/smoke.sh [--delete-all] [URL]
#
# URL is the gateway's; by default it is the gateway that scripts/run.sh has started in this checkout. It leaves one
# order behind and removes only the movies that it created: it tests deleting all movies only with --delete-all, and
# only if there are no others. Prints one line per check; fails if a check fails. Where the gateway has tokens, TOKEN in
# the environment must be one of the role admin.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"
# shellcheck source=lib/platform.sh
. "$here/lib/platform.sh"

delete_all=no
while [[ ${1-} == -* ]]; do
    case $1 in
        --delete-all) delete_all=yes ;;
        -h | --help)
            show_help
            exit
            ;;
        *) fail "unknown option $1; see scripts/smoke.sh --help" ;;
    esac
    shift
done
(($# <= 1)) || fail "too many arguments; see scripts/smoke.sh --help"
load_settings
read_services
find_gateway "$@"
need curl
answers=$(mktemp -d)
# The id of the movie that this script has created, while it exists.
id=''
# The token is in a file, because command lines are visible to all users.
access=()
if [[ -n ${TOKEN-} ]]; then
    printf 'header = "Authorization: Bearer %s"\n' "$TOKEN" >"$answers/access"
    access=(-K "$answers/access")
fi
trap clean_up EXIT
trap 'exit 130' INT TERM HUP
passed=0 failed=0
json='Content-Type: application/json'
# A unique title, so that the search finds only this movie.
title="Smoke $$-$RANDOM"

# Remove the movie however the script ends.
clean_up() {
    [[ -z $id ]] || curl "${access[@]}" -s -m 5 -o "$answers/body" -X DELETE "$url/api/movies/$id" || true
    rm -rf -- "$answers"
}

# created: sets id to that of the movie in the last answer.
created() {
    id=''
    # Without an id, the requests below would go to /api/movies and delete all movies.
    [[ $body =~ ^\{\"id\":\ *([0-9]+), ]] || fail "no movie was created, so that nothing else can be tried"
    id=${BASH_REMATCH[1]}
}

# only_ours: whether our movie is the only one.
only_ours() {
    check "the list" 200 GET '/api/movies?limit=2'
    [[ $body == "[{\"id\":$id,\"title\":\"the last\",\"description\":\"\"}]" ]]
}

# check WHAT STATUS METHOD TARGET [curl arguments…]: one request. Leaves $status, and $head and $body for expect.
check() {
    local what=$1 expected=$2 method=$3 target=$4
    shift 4
    # The target is sent unchanged, without removing dot segments.
    local arguments=("${access[@]}" -sS -m 30 --path-as-is -X "$method" -D "$answers/head" -o "$answers/body" -w '%{http_code}')
    if [[ $method == HEAD ]]; then arguments+=(-I); fi
    rm -f -- "$answers/head" "$answers/body"
    touch -- "$answers/head" "$answers/body"
    status=$(curl "${arguments[@]}" "$@" "$url$target" 2>"$answers/error") || status="nothing: $(<"$answers/error")"
    head=$(tr -d '\r' <"$answers/head")
    body=$(tr -d '\0' <"$answers/body")
    report "$what" "$([[ $status == "$expected" ]] && echo ok)" "$status $method $target" "expected $expected; $body"
}

# expect WHAT PATTERN: the last answer's body matches the shell pattern.
expect() {
    # shellcheck disable=SC2053 # a pattern is wanted
    report "$1" "$([[ $body == $2 ]] && echo ok)" "" "the body is: $body"
}

# expect_header WHAT PATTERN: one of its header lines does.
expect_header() {
    local line found=''
    shopt -s nocasematch
    while IFS= read -r line; do
        # shellcheck disable=SC2053 # a pattern is wanted
        if [[ $line == $2 ]]; then found=ok; fi
    done <<<"$head"
    shopt -u nocasematch
    report "$1" "$found" "" "the header is: $head"
}

# report WHAT OK SEEN PROBLEM
report() {
    if [[ $2 == ok ]]; then
        passed=$((passed + 1))
        printf '  ok      %-58s %.60s\n' "$1" "$3"
    else
        failed=$((failed + 1))
        printf '  FAILED  %-58s %s\n          %s\n' "$1" "$3" "$4"
    fi
}

say "The gateway at $url"
check "serves" 200 GET /health
expect "says so" '{"status":*"ok"}'
check "and its dependencies are reachable" 200 GET /ready

say "Movies"
check "the list" 200 GET /api/movies
expect "is an array" '\[*]'
check "the list, with a slash at its end" 200 GET /api/movies/
check "create" 201 POST /api/movies -H "$json" -d "{\"title\": \"$title\", \"description\": \"by smoke.sh\"}"
expect "answers with the movie" "{\"id\":*\"title\":*\"$title\"*\"description\":*\"by smoke.sh\"}"
created
expect_header "and tells where it is" "location:*/api/movies/$id"
check "read" 200 GET "/api/movies/$id"
expect_header "with an ETag" 'etag: "*"'
etag=$(sed -n 's/^[Ee][Tt][Aa][Gg]: *//p' <<<"$head")
check "read again, unchanged" 304 GET "/api/movies/$id" -H "If-None-Match: $etag"
check "its header alone" 200 HEAD "/api/movies/$id"
check "search by a part of the title" 200 GET "/api/movies?title=${title:6}"
expect "finds it" "*\"id\":*$id,*"
check "search for what is not there" 200 GET "/api/movies?title=none-$RANDOM$RANDOM%25_"
expect "finds nothing" '\[]'
check "one page of the list" 200 GET '/api/movies?limit=1'
expect "has one movie" '\[{"id":*}]'
check "replace" 200 PUT "/api/movies/$id" -H "$json" -d "{\"title\": \"$title, changed\"}"
expect "keeps what was not given" '*changed*by smoke.sh*'
check "change one member" 200 PATCH "/api/movies/$id" -H "$json" -d '{"description": "changed too"}'
check "change what somebody else has changed" 412 PUT "/api/movies/$id" -H "$json" -H "If-Match: $etag" \
    -d '{"title": "too late"}'
check "methods" 204 OPTIONS "/api/movies/$id"
expect_header "are told" 'allow:*DELETE*'
check "delete" 200 DELETE "/api/movies/$id"
check "is gone" 404 GET "/api/movies/$id"
[[ $status != 404 ]] || id=''
if [[ $delete_all == yes ]]; then
    check "create another" 201 POST /api/movies -H "$json" -d '{"title": "the last"}'
    created
    if only_ours; then
        check "delete all" 200 DELETE /api/movies
        expect "says how many" '*"deleted":*1*'
        id=''
        check "the list" 200 GET /api/movies
        expect "is empty" '\[]'
    else
        report "delete all" '' "" "not tried, since there are movies of others"
    fi
else
    say "  skipped deleting all movies (--delete-all tries it while there are none)"
fi

say "Orders"
order='{"user_id": "smoke", "number_of_items": "5", "total_amount": "180"}'
check "an order" 200 POST /api/billing -H "$json" -H "Idempotency-Key: smoke-$$-$RANDOM" -d "$order"
expect "is posted" '*Message posted*message_id*'
order_id=$(sed -n 's/.*"message_id": *"\([^"]*\)".*/\1/p' <<<"$body")
check "what became of it" 200 GET "/api/status/orders/$order_id"
expect "is known" '*"state":"@(outbox|waiting|stored)"*'
check "what became of any order" 200 GET '/api/status/orders?message_id=no-such%2Forder'
expect "is not known of one that nobody placed" '*"state":"unknown"*'
check "stored orders" 200 GET '/api/orders?limit=1'
expect "are an array" '\[*]'
check "an order that nobody placed" 404 GET /api/orders/no-such-order
check "dead letters" 200 GET '/api/dead-letters?limit=1'
expect "are an array" '\[*]'
letter=00000000000000000000000000000000
check "a dead letter that is none is not sent back" 404 POST "/api/dead-letters/$letter"
check "nor discarded" 404 DELETE "/api/dead-letters/$letter"
check "the same path with a slash at its end refuses nonsense" 400 POST /api/billing/ -H "$json" -d '{"user_id": 3}'
expect "and names the fields" '*number_of_items*total_amount*'

for name in "${service_names[@]}"; do
    say "The service $name"
    check "its list" 200 GET "${service_path[$name]}?limit=1"
    check "its methods" 204 OPTIONS "${service_path[$name]}"
    expect_header "are told" 'allow:*GET*'
    check "what it does not have" 404 GET "${service_path[$name]}/none/none"
done

say "Status, metrics and pages"
check "the state of every part" 200 GET /api/status
expect "names the parts" '*"billing":*"broker":*"gateway":*"inventory":*"postgresql":*'
check "figures of the last quarter of an hour" 200 GET /api/status/history
expect "have a step" '*"step_s":5*'
check "figures of other minutes" 400 GET '/api/status/history?minutes=30'
check "the catalogue of services" 200 GET /api/services
expect "names billing" '*"name":"billing"*'
check "metrics are not for strangers" 404 GET /metrics
check "the console" 200 GET /
expect "is a page" '<!doctype html>*'
check "the documentation" 200 GET /docs
check "the OpenAPI document" 200 GET /openapi.json
expect "describes orders" '*/api/billing*'
check "the same as YAML" 200 GET /openapi.yaml
expect "describes orders, too" '*/api/billing:*'
check "a file of the console" 200 GET /assets/console.js

say "Refusals"
check "a movie without a title" 400 POST /api/movies -H "$json" -d '{"description": "none"}'
expect "names the field" '*"fields":*"title":*'
check "a body that is no JSON" 400 POST /api/movies -H "$json" -d '{"title": '
check "a body of another type" 415 POST /api/movies -H 'Content-Type: text/plain' -d 'title'
check "an order of another type" 415 POST /api/billing -H 'Content-Type: text/plain' -d "$order"
check "an order that is no JSON" 400 POST /api/billing -H "$json" -d 'order'
check "an id that is none" 400 GET /api/movies/abc
check "an id that nobody has" 404 GET /api/movies/9223372036854775807
check "a limit that is none" 400 GET '/api/movies?limit=0'
check "another method" 405 PATCH /api/movies -H "$json" -d '{}'
expect_header "tells which it could be" 'allow:*POST*'
check "reading orders" 405 GET /api/billing
check "another path" 404 GET /api/nothing
check "a way out of /api/movies" 400 GET /api/movies/../../health/none
check "a target over the limit" 414 GET "/api/movies?title=$(printf '%09000d' 0)"
head -c 2000000 /dev/zero | tr '\0' ' ' >"$answers/large"
check "a body over the limit" 413 POST /api/billing -H "$json" -H 'Expect:' --data-binary "@$answers/large"
expect "is refused in JSON as well" '{*"error":*}'

say "$passed checks passed, $failed failed."
((failed == 0))
