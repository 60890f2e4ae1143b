#!/usr/bin/env bash
# Makes two services in a copy of the project, as a new user would, and tries everything that is promised of them:
# format, lints, their own tests, run.sh, requests through the gateway, smoke.sh, psql.sh, --remove.
#
#   scripts/test-new-service.sh
#
# The copy uses free ports and a copy of the build folder, and is removed at the end. From the command to the first 201
# it may take two minutes. It builds with both profiles, so all of it takes minutes.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"
# shellcheck source=lib/postgres.sh
. "$here/lib/postgres.sh"

case ${1-} in
    '') ;;
    -h | --help) show_help && exit ;;
    *) fail "unknown argument $1; see scripts/test-new-service.sh --help" ;;
esac

# In seconds, for two services at once.
first_201_limit=120

main() {
    need_rust
    need curl git jq node postgres
    copy_project
    copy_build
    use_free_ports
    # A user has built the platform before.
    say "== building the platform"
    cargo build --quiet --release --locked --bin={api-gateway,inventory-app,billing-app,broker}
    start=$SECONDS
    say "== two services are made"
    scripts/new-service.sh pizzas title:text:required:unique:searchable price:decimal:required:sortable:filterable \
        kind:word=meat,vegan:filterable made:date seen:timestamp link:url owner:uuid hot:boolean count:integer notes
    scripts/new-service.sh my-ovens
    say "== they run behind the gateway"
    start_platform
    try_pizzas
    say "== everything else"
    movies=$(scripts/load-movies.sh gateway/assets/sample-movies.json 2>&1) || true
    [[ $movies == *'40 of 40 movies loaded.' ]] || fail "the sample movies are not loaded: $movies"
    scripts/smoke.sh "$gateway" >"$work/smoke.log" || { cat -- "$work/smoke.log" && exit 1; }
    tail -n 1 "$work/smoke.log"
    [[ $(scripts/psql.sh pizzas_db -Atc 'SELECT title FROM pizzas') == Margherita ]] || fail "psql.sh finds no pizza"
    stop_platform
    cargo fmt --all --check
    cargo clippy --quiet --locked --package=pizzas --package=my-ovens --all-targets -- -D warnings
    cargo test --quiet --locked --package=pizzas --package=my-ovens
    cargo test --quiet --locked --package=system-tests -- settings:: architecture::
    # The scripts are tested in copies that must not have what a user has made.
    env -u COMMANDS scripts/tests/all.sh >"$work/scripts.log" || { cat -- "$work/scripts.log" && exit 1; }
    say "== they are removed"
    scripts/new-service.sh --remove pizzas
    scripts/new-service.sh --remove my-ovens
    git diff --exit-code || fail "something of them is left"
    [[ -z $(git status --porcelain) ]] || fail "something of them is left: $(git status --porcelain)"
    say "From the command to the first 201 it took $first_201 s."
    ((first_201 <= first_201_limit)) || fail "that is more than $first_201_limit s"
}

# copy_project: all files of this checkout that git knows or would add, in a repository of its own.
copy_project() {
    local files=$root
    work=$(mktemp -d)
    # The user postgres must be able to enter.
    chmod 755 -- "$work"
    copy=$work/copy
    trap clean_up EXIT
    trap 'exit 130' INT TERM HUP
    mkdir -- "$copy"
    (cd "$files" && git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - 2>/dev/null) |
        tar -x -C "$copy"
    cd "$copy"
    git init --quiet
    git add --all
    git -c user.name=copy -c user.email=copy@localhost commit --quiet --message=copy
}

# copy_build: begins with what was built here. Cargo would take the builds of two folders for one, so they share none.
copy_build() {
    local profile part built=${CARGO_TARGET_DIR:-$root/target}
    export CARGO_TARGET_DIR=$work/target
    for profile in release debug; do
        mkdir -p -- "$CARGO_TARGET_DIR/$profile"
        for part in deps build .fingerprint; do
            [[ ! -d $built/$profile/$part ]] || cp -a --reflink=auto -- "$built/$profile/$part" "$CARGO_TARGET_DIR/$profile/"
        done
    done
}

supervisor=''
clean_up() {
    set +e
    trap '' INT TERM HUP
    if [[ -n $supervisor ]]; then "$copy/scripts/run.sh" stop >/dev/null 2>&1; fi
    cd /
    remove_cluster "$copy/.data/postgres"
    rm -rf -- "$work"
}

use_free_ports() {
    local setting port=$((20000 + RANDOM % 8000))
    for setting in GATEWAY INVENTORY BROKER INVENTORY_DB; do
        while port_is_open 127.0.0.1 $((++port)); do :; done
        export "${setting}_PORT=$port"
    done
    gateway=http://127.0.0.1:$GATEWAY_PORT
}

start_platform() {
    : >"$work/run.log"
    scripts/run.sh >>"$work/run.log" 2>&1 &
    supervisor=$!
    wait_for 900 is_ready || { cat -- "$work/run.log" && fail "the platform is not ready"; }
}

is_ready() {
    is_gone "$supervisor" && return 0
    grep -q 'The platform is ready' "$work/run.log"
}

stop_platform() {
    scripts/run.sh stop
    wait "$supervisor" || fail "run.sh ended with $?"
    supervisor=''
}

# ask STATUS METHOD TARGET [BODY]: one request; its answer is in answer.
ask() {
    local status body=()
    if (($# > 3)); then body=(-H 'Content-Type: application/json' -d "$4"); fi
    status=$(curl -sS -m 30 -X "$2" -o "$work/answer" -w '%{http_code}' "${body[@]}" "$gateway$3") || true
    answer=$(<"$work/answer")
    [[ $status == "$1" ]] || { tail -n 20 "$work/run.log" && fail "$2 $3: $status instead of $1: $answer"; }
}

try_pizzas() {
    local id
    ask 201 POST /api/pizzas '{"title": "Margherita", "price": "7.5", "kind": "vegan", "made": "2024-02-29"}'
    first_201=$((SECONDS - start))
    id=$(jq .id <<<"$answer")
    ask 200 GET "/api/pizzas/$id"
    [[ $(jq -c '[.title, .price, .kind, .hot, .notes, .link]' <<<"$answer") == '["Margherita",7.5,"vegan",false,"",null]' ||
        $(jq -c '[.title, .price, .kind, .hot, .notes, .link]' <<<"$answer") == '["Margherita",7.50,"vegan",false,"",null]' ]] ||
        fail "this is another pizza: $answer"
    ask 409 POST /api/pizzas '{"title": "Margherita", "price": 1}'
    ask 400 POST /api/pizzas '{"title": "Salami", "kind": "fish"}'
    [[ $(jq -c '.fields | keys' <<<"$answer") == '["kind","price"]' ]] || fail "other fields are named: $answer"
    ask 200 GET '/api/pizzas?title=GHERI&kind=vegan&price_from=7&sort=-price'
    [[ $(jq length <<<"$answer") == 1 ]] || fail "it is not found: $answer"
    ask 201 POST /api/my-ovens '{"name": "stone"}'
    ask 200 GET /ready
    ask 200 GET /api/status
    [[ $(jq -c '.services | map_values(.state)' <<<"$answer") == '{"my-ovens":"ok","pizzas":"ok"}' ]] || fail "other services: $answer"
    ask 200 GET /openapi.json
    jq -e '.paths["/api/pizzas"].post.tags == ["pizzas"] and .paths["/api/my-ovens/{id}"].get != null' <<<"$answer" >"$work/null" ||
        fail "/openapi.json does not describe them"
    node scripts/docs/examples.js "$work/answer"
    scripts/run.sh list
    scripts/run.sh stop pizzas_app
    ask 503 GET "/api/pizzas/$id"
    ask 503 GET /ready
    ask 200 GET /api/my-ovens
    scripts/run.sh start pizzas_app
}

main
