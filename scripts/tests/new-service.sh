#!/usr/bin/env bash
# Tests new-service.sh with a cargo that does nothing, fails or hangs: names and fields, that everything or nothing is
# done, and --remove. That what is made builds and works is tested by scripts/test-new-service.sh.
set -uo pipefail

# shellcheck source=testing.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/testing.sh"
# shellcheck source=../lib/project.sh
. "$here/lib/project.sh"

# Cargo changes Cargo.lock even if it then fails.
make_program "$work/bin/cargo" <<END
[[ \$1 != metadata ]] || {
    ls services >>Cargo.lock 2>/dev/null
    [[ ! -e '$work/cargo-hangs' ]] || { touch '$work/cargo-began' && exec sleep 100; }
    [[ ! -e '$work/cargo-fails' ]] || { echo 'error: it is broken' >&2 && exit 1; }
}
END
make_program "$work/bin/rustfmt" <<<'exit 1'
PATH=$work/bin:$PATH

# begin NAME: a checkout of its own.
begin() {
    make_checkout "$1"
    cp -- "$checkout/Cargo.lock" "$work/"
    make=$checkout/scripts/new-service.sh
    before=$(contents)
}

# contents: one sum of everything in the checkout but .data.
contents() {
    (
        cd "$checkout" || exit 1
        find . -path ./.data -prune -o -type d -print -o -type f -exec sha256sum {} + | LC_ALL=C sort
    ) | sha256sum
}

expect_unchanged() {
    [[ $(contents) == "$before" ]] || { diff -rq "$here/.." "$checkout" | grep -v '^Only in /' | head -n 20 && exit 1; }
    [[ ! -e $checkout/.data ]] || expect "$(ls -A -- "$checkout/.data")" new-service.lock
}

# settings_here: the settings of the checkout, as the scripts read them.
settings_here() {
    root=$checkout
    load_settings
    read_services
}

test_a_service_is_made_and_removed_without_a_trace() {
    local name
    begin life
    succeeds "$make" pizzas title:text:required:searchable price:decimal kind:word=meat,vegan:filterable
    expect "$seen" "Made services/pizzas: pizza, pizzas at /api/pizzas, listening on port 81??, database pizzas_db.*"
    for name in Cargo.toml README.md src/{main,settings,resource}.rs sql/0001_pizzas.sql tests/contract.rs; do
        [[ -s $checkout/services/pizzas/$name ]] || fail "there is no $name"
        ! grep -nE '@[A-Z_]+@' "$checkout/services/pizzas/$name" || exit 1
    done
    expect "$(grep -c '"services/pizzas",' "$checkout/Cargo.toml")" 1
    (
        settings_here
        expect "${service_names[*]} ${service_path[pizzas]}" "pizzas /api/pizzas"
        expect "$PIZZAS_PORT $PIZZAS_DB_NAME $PIZZAS_DB_USER" "81?? pizzas_db pizzas"
        ((${#PIZZAS_DB_PASSWORD} == 20)) || fail "the password has ${#PIZZAS_DB_PASSWORD} characters"
        succeeds check_settings PIZZAS_PORT PIZZAS_DB_PASSWORD
        expect "$seen" ''
    ) || exit 1
    succeeds "$make" --remove pizzas
    # The real cargo takes it out of Cargo.lock, too.
    cp -- "$work/Cargo.lock" "$checkout/"
    expect_unchanged
}

test_services_have_ports_of_their_own_and_share_the_list() {
    begin several
    sed -i "s/^#GATEWAY_SERVICES=.*/GATEWAY_SERVICES='todo=\/todo, films=\/films'/" "$checkout/.env"
    succeeds "$make" pizzas
    succeeds "$make" my-ovens
    (
        settings_here
        expect "$GATEWAY_SERVICES" "todo=/todo, films=/films,pizzas=/api/pizzas,my-ovens=/api/my-ovens"
        [[ $PIZZAS_PORT != "$MY_OVENS_PORT" && $PIZZAS_DB_PASSWORD != "$MY_OVENS_DB_PASSWORD" ]] || fail "they share something"
        expect "$(grep -o '_PRIVATE_PORT=93[2-9].*' "$checkout/.env" | sort -u | wc -l)" 2
    ) || exit 1
    succeeds "$make" --remove pizzas
    (
        settings_here
        expect "$GATEWAY_SERVICES" "todo=/todo, films=/films,my-ovens=/api/my-ovens"
        expect "$MY_OVENS_DB_NAME ${PIZZAS_PORT-none}" "my_ovens_db none"
    ) || exit 1
}

test_a_name_that_cannot_be_is_refused_and_nothing_changes() {
    local name
    begin names
    # shellcheck disable=SC2016 # nothing of this may expand
    for name in Pizzas 1pizza -pizzas pizzas- my--pizzas my_pizzas 'my pizzas' ../pizzas pizzas/x 'a$(x)' "pizza's" .. \
        "$(printf 'a%.0s' {1..31})" gateway inventory billing broker vm pg-tables movies status test std todo crud tokio \
        serde log scripts gateway-two billing-old orders dead-letters public none $'pizzas\n'; do
        fails "$make" "$name"
        expect "$seen" "new-service.sh: *"
        expect_unchanged
    done
    fails "$make" ''
    fails "$make"
    # Settings with HOME_ would be taken for those of home.
    export HOME_PORT=1
    fails "$make" home
    expect "$seen" "*there is a setting HOME_PORT"
    expect_unchanged
    printf 'GATEWAY_SERVICES=films=/films\n' >"$checkout/.env.local"
    fails "$make" pizzas
    expect "$seen" "*GATEWAY_SERVICES in .env.local overrides*"
    rm -- "$checkout/.env.local"
    expect_unchanged
}

test_a_name_that_is_taken_is_refused() {
    local name
    begin taken
    succeeds "$make" pizzas
    before=$(contents)
    for name in pizzas pizzas-two; do
        fails "$make" "$name"
        expect "$seen" "*pizzas*"
        expect_unchanged
    done
}

test_a_path_that_another_service_has_is_refused_and_nothing_changes() {
    local other
    begin paths
    for other in /api/pizzas /api /api/pizzas/hot; do
        sed -i "s|^#\?GATEWAY_SERVICES=.*|GATEWAY_SERVICES='todo=/todo, films = $other'|" "$checkout/.env"
        before=$(contents)
        fails "$make" pizzas
        expect "$seen" "new-service.sh: the path /api/pizzas is taken: GATEWAY_SERVICES has films at $other"
        expect_unchanged
    done
    # What only begins alike is another path.
    sed -i "s|^GATEWAY_SERVICES=.*|GATEWAY_SERVICES=films=/api/pizzas-hot,other=/api/pizza|" "$checkout/.env"
    succeeds "$make" pizzas
}

test_fields_that_cannot_be_are_refused_and_nothing_changes() {
    local field
    begin fields
    # shellcheck disable=SC2016 # nothing of this may expand
    for field in Title 1st a-b id limit sort offset after_x x_from x_to :text title:string title:text:fast \
        'a b' 'a"b' "a'b" 'a$b' '' 'kind:word=' 'kind:word=a,,b' 'kind:word=A' "kind:word=a'b" price:decimal:searchable \
        title:text:searchable:filterable:required price:integer:sortable title:text:unique xmin ctid $'a\nb'; do
        fails "$make" pizzas name:text "$field"
        expect "$seen" "new-service.sh: *"
        expect_unchanged
    done
    # The name of a constraint has both, and PostgreSQL cuts it off after 63 letters.
    fails "$make" "$(printf 'a%.0s' {1..30})" "$(printf 'b%.0s' {1..27})"
    expect "$seen" "*is too long*"
    expect_unchanged
    fails "$make" pizzas name:text name:date
    expect "$seen" "*there are two fields name"
    expect_unchanged
}

test_what_fails_is_undone() {
    begin fails
    touch -- "$work/cargo-fails"
    fails "$make" pizzas
    expect "$seen" "*cargo does not accept it: *it is broken*Undoing*"
    expect_unchanged
    rm -- "$work/cargo-fails"
    succeeds "$make" pizzas
    before=$(contents)
    touch -- "$work/cargo-fails"
    fails "$make" --remove pizzas
    expect_unchanged
    rm -- "$work/cargo-fails"
}

test_what_is_interrupted_is_undone() {
    local process signal
    begin interrupted
    for signal in TERM HUP; do
        touch -- "$work/cargo-hangs"
        "$make" pizzas >"$work/interrupted.log" 2>&1 &
        process=$!
        wait_for 10 test -e "$work/cargo-began" || fail "cargo was not called: $(<"$work/interrupted.log")"
        fails "$make" ovens
        expect "$seen" "*another scripts/new-service.sh is at work"
        kill "-$signal" "$process"
        # bash takes the signal once the program that it waits for has ended.
        rm -- "$work/cargo-hangs"
        end_children "$process"
        wait "$process"
        rm -f -- "$work/cargo-began"
        expect "$(<"$work/interrupted.log")" "*Undoing*"
        expect_unchanged
    done
}

# end_children PID: ends what it and its children have started, the youngest first.
end_children() {
    local child children=()
    read -r -a children <"/proc/$1/task/$1/children"
    for child in "${children[@]}"; do
        end_children "$child"
        [[ $(readlink "/proc/$child/exe") != */sleep ]] || kill "$child"
    done
}

test_a_list_of_services_that_overrides_that_of_env_is_not_taken_for_it() {
    begin lists
    succeeds "$make" pizzas
    before=$(contents)
    fails env GATEWAY_SERVICES=films=/films "$make" ovens
    expect "$seen" "*GATEWAY_SERVICES in the environment overrides*"
    fails env GATEWAY_SERVICES=films=/films "$make" --remove pizzas
    expect "$seen" "*GATEWAY_SERVICES in the environment overrides*"
    expect_unchanged
    printf 'GATEWAY_SERVICES=films=/films\n' >"$checkout/.env.local"
    fails "$make" --remove pizzas
    expect "$seen" "*GATEWAY_SERVICES in .env.local overrides*"
    rm -- "$checkout/.env.local"
    expect_unchanged
}

test_what_was_changed_is_not_removed() {
    local name
    begin changed
    succeeds "$make" pizzas
    cp -r -- "$checkout" "$work/pristine"
    echo '// mine' >>"$checkout/services/pizzas/src/resource.rs"
    touch -- "$checkout/services/pizzas/notes.txt"
    before=$(contents)
    fails "$make" --remove pizzas
    expect "$seen" "*not as they were made*: notes.txt src/resource.rs*"
    expect_unchanged
    rm -rf -- "$checkout/services" && cp -r -- "$work/pristine/services" "$checkout/"
    sed -i 's/^PIZZAS_PORT=.*/PIZZAS_PORT=9999/' "$checkout/.env"
    before=$(contents)
    fails "$make" --remove pizzas
    expect "$seen" "*the settings of pizzas in .env have changed*"
    expect_unchanged
    cp -- "$work/pristine/.env" "$checkout/"
    succeeds "$make" --remove pizzas
    for name in ovens '' ../scripts gateway; do
        fails "$make" --remove "$name"
        expect "$seen" "*has made no service*"
    done
}

run_tests
