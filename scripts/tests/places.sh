#!/usr/bin/env bash
# Tests what lib/postgres.sh keeps and removes outside a checkout, with folders that only look like those of PostgreSQL.
set -uo pipefail

# shellcheck source=testing.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/testing.sh"
# shellcheck source=../lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=../lib/postgres.sh
. "$here/lib/postgres.sh"

# The tests need neither root nor a user postgres.
own() { :; }

# enter FOLDER: continues as the scripts of that checkout would.
enter() {
    root=$1 data=$1/.data
    mkdir -p -- "$data"
}

# begin NAME: creates a checkout with data outside; sets place to its folder.
begin() {
    # Each test has places of its own.
    places=$work/places-$1
    enter "$work/$1"
    make_place "$data/postgres" >/dev/null
    place=$(dirname -- "$(readlink -- "$data/postgres")")
    mkdir -p -- "$place/postgres/cluster"
}

test_a_place_that_is_used_stays() {
    begin used
    succeeds remove_orphans
    expect "$seen" ''
    [[ -d $place/postgres/cluster ]] || fail "it is gone"
}

test_a_place_goes_with_the_data() {
    begin removed
    rm -rf -- "$data"
    succeeds remove_orphans
    expect "$seen" "Removing $place, the data of $data/postgres, which was removed."
    [[ ! -e $place ]] || fail "it is still there"
}

test_a_place_whose_server_runs_stays() {
    begin served
    sleep 100 &
    echo $! >"$place/postgres/cluster/postmaster.pid"
    rm -rf -- "$data"
    succeeds remove_orphans
    kill $!
    expect "$seen" "*still runs in it*"
    [[ -d $place ]] || fail "it is gone"
}

test_a_checkout_that_is_gone_may_have_moved() {
    begin gone
    mv -- "$root" "$root-elsewhere"
    # Another checkout takes its path, and has no data yet.
    mkdir -p -- "$root/.data"
    succeeds remove_orphans
    expect "$seen" "$place is from a checkout that was at $root. Unless that was moved, remove it with rm -r $place"
    [[ -d $place ]] || fail "it is gone"
}

test_a_checkout_that_has_moved_keeps_its_place() {
    begin before
    mv -- "$root" "$work/after"
    enter "$work/after"
    succeeds keep_place "$data/postgres"
    succeeds remove_orphans
    expect "$seen" ''
    [[ -d $place ]] || fail "it is gone"
}

test_a_copy_does_not_write_into_the_original() {
    begin original
    cp -a -- "$root" "$work/copy"
    enter "$work/copy"
    fails keep_place "$data/postgres"
    expect "$seen" "*$data/postgres leads to the data of $work/original; remove it with rm *"
}

test_a_link_to_somewhere_else_is_left_alone() {
    begin elsewhere
    rm -- "$data/postgres"
    mkdir -- "$work/mine"
    ln -s -- "$work/mine" "$data/postgres"
    succeeds keep_place "$data/postgres"
    [[ ! -e $work/mine/owner ]] || fail "it was claimed"
}

test_remove_cluster_removes_its_place() {
    begin bench
    succeeds remove_cluster "$data/postgres"
    [[ ! -e $place && ! -L $data/postgres ]] || fail "it is still there"
}

run_tests
