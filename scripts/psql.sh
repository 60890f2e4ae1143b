#!/usr/bin/env bash
# Opens a database with psql, as the service that owns it: movies_db, billing_db, or that of a service of
# GATEWAY_SERVICES, such as todo_db.
#
#   scripts/psql.sh DATABASE [psql arguments]
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
read_services
prefix='' known=(movies_db billing_db)
case ${1-} in
    movies_db | "$INVENTORY_DB_NAME") prefix=INVENTORY_DB ;;
    billing_db | "$BILLING_DB_NAME") prefix=BILLING_DB ;;
esac
for name in "${service_names[@]}"; do
    known+=("$(setting_of "$name" DB_NAME)")
    if [[ ${1-} == "${known[-1]}" ]]; then prefix=$(variable_of "$name")_DB; fi
done
[[ -n $prefix ]] || fail "which database? scripts/psql.sh DATABASE [psql arguments]; the databases are ${known[*]}"
shift
setting() {
    local name=${prefix}_$1
    printf %s "${!name-}"
}

# The defaults are those of the services.
host=$(setting HOST) host=${host:-127.0.0.1}
port=$(setting PORT) port=${port:-5432}
# PostgreSQL writes its port into the fourth line of this file while it runs.
running=$data/postgres/cluster/postmaster.pid
if [[ -r $running ]]; then
    host=127.0.0.1
    port=$(sed -n 4p -- "$running")
fi

if command -v psql >/dev/null; then psql=psql; else find_postgres && psql=$pg/psql; fi
unset "${!PG@}"
PGPASSWORD=$(setting PASSWORD) exec "$psql" -h "$host" -p "$port" -U "$(setting USER)" -d "$(setting NAME)" "$@"
