#!/usr/bin/env bash
# Posts the movies of a file through the gateway.
#
#   scripts/load-movies.sh [--map FILTER] FILE [URL]
#
# Forty movies to begin with, which the console offers, too:
#   scripts/load-movies.sh gateway/assets/sample-movies.json
# FILE holds a JSON array or one JSON value after another; - is standard input. Every entry is sent unchanged; the
# platform validates it. FILTER, a jq program, converts entries of another shape to movies. This example loads the
# movies.json of the npm package vega-datasets, in which some titles are numbers and many directors are null:
#   scripts/load-movies.sh --map '{title: (.Title // "Untitled" | tostring),
#       description: ([.Director, ."Major Genre"] | map(strings) | join(", "))}' movies.json
# URL is the gateway's; by default it is the gateway that scripts/run.sh has started in this checkout. Shows its
# progress, then what was refused and why; fails if anything was refused. Where the gateway has tokens, TOKEN in the
# environment must be one of the role write.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"
# shellcheck source=lib/platform.sh
. "$here/lib/platform.sh"

filter=.
while [[ ${1-} == -?* ]]; do
    case $1 in
        --map)
            filter=${2-}
            [[ -n $filter ]] || fail "--map needs a filter; see scripts/load-movies.sh --help"
            shift 2
            ;;
        -h | --help)
            show_help
            exit
            ;;
        *) fail "unknown option $1; see scripts/load-movies.sh --help" ;;
    esac
done
(($# > 0)) || fail "which file? scripts/load-movies.sh FILE"
(($# <= 2)) || fail "too many arguments; see scripts/load-movies.sh --help"
file=$1
[[ $file == - || -r $file ]] || fail "cannot read $file"
find_gateway "${@:2}"
need curl jq
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

# Writes one entry per line. If the file becomes invalid JSON at some point, says so; the entries before it are loaded.
whole=yes
cat -- "$file" | jq -c "if type == \"array\" then .[] else . end | $filter" >"$work/movies" 2>"$work/error" || whole=no
total=$(wc -l <"$work/movies")

# curl sends all requests over one connection when it reads them from one list. A quoted value in that list is escaped
# as in JSON, so the body is encoded as JSON twice.
jq -r --arg url "$url/api/movies" '
    (env.TOKEN // "") as $token |
    "next", "url = \($url | tojson)", "header = \"Content-Type: application/json\"",
    (if $token == "" then empty else "header = \("Authorization: Bearer \($token)" | tojson)" end), "data-raw = \(tojson | tojson)",
    "write-out = \"\\n%{http_code}\\n\""' "$work/movies" | tail -n +2 >"$work/requests"

# In a terminal the progress stays on one line; elsewhere it is printed rarely.
before='' after=$'\n' step=1000
[[ ! -t 2 ]] || before=$'\r' after='' step=100
loaded=0 count=0
: >"$work/refused"
if ((total > 0)); then
    # Each answer is two lines: the body, then the status.
    while IFS= read -r body && IFS= read -r status; do
        count=$((count + 1))
        if [[ $status == 201 ]]; then
            loaded=$((loaded + 1))
        else
            printf '%s\t%s %s\n' "$count" "$status" "${body:-no answer}" >>"$work/refused"
        fi
        if ((count % step == 0 || count == total)); then
            printf '%s%s of %s sent, %s loaded, %s refused%s' \
                "$before" "$count" "$total" "$loaded" $((count - loaded)) "$after" >&2
        fi
    done < <(curl -s -m 60 -K "$work/requests" || true)
    [[ -z $before ]] || printf '\n' >&2
fi

say "$loaded of $total movies loaded."
if [[ -s $work/refused ]]; then
    say "Refused, by reason:"
    # Each reason, its count, and the first entry it applied to.
    awk -F'\t' '{ if (!($2 in times)) { first[$2] = $1 } times[$2]++ }
        END { for (reason in times) printf "%d\t%d\t%s\n", times[reason], first[reason], reason }' "$work/refused" |
        sort -rn | while IFS=$'\t' read -r times first reason; do
        printf '  %s times: %s\n    first, entry %s: %.200s\n' "$times" "$reason" "$first" \
            "$(sed -n "${first}p" "$work/movies")"
    done
fi
if ((count < total)); then say "$((total - count)) were not sent: the gateway at $url does not answer."; fi
if [[ $whole == no ]]; then say "The file is not JSON throughout: $(<"$work/error")"; fi
[[ $whole == yes ]] && ((loaded == total))
