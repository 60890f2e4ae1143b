#!/usr/bin/env bash
# Opens one of the two databases with psql, as the service that owns it.
#
#   scripts/psql.sh movies_db|billing_db [psql arguments]
#   scripts/psql.sh billing_db -c 'TABLE orders'
#
# Connects to the PostgreSQL of a running scripts/run.sh, else to the one that .env names.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"
# shellcheck source=lib/postgres.sh
. "$here/lib/postgres.sh"

case ${1-} in
    -h | --help)
        show_help
        exit
        ;;
    -*) fail "unknown option $1; options of psql come after the database; see scripts/psql.sh --help" ;;
esac
load_settings
case ${1-} in
    movies_db | "$INVENTORY_DB_NAME") prefix=INVENTORY_DB ;;
    billing_db | "$BILLING_DB_NAME") prefix=BILLING_DB ;;
    *) fail "which database? scripts/psql.sh movies_db|billing_db [psql arguments]" ;;
esac
shift
setting() {
    local name=${prefix}_$1
    printf %s "${!name}"
}

host=$(setting HOST)
port=$(setting PORT)
# PostgreSQL writes its port into the fourth line of this file while it runs.
running=$data/postgres/cluster/postmaster.pid
if [[ -r $running ]]; then
    host=127.0.0.1
    port=$(sed -n 4p -- "$running")
fi

if command -v psql >/dev/null; then psql=psql; else find_postgres && psql=$pg/psql; fi
unset "${!PG@}"
PGPASSWORD=$(setting PASSWORD) exec "$psql" -h "$host" -p "$port" -U "$(setting USER)" -d "$(setting NAME)" "$@"
