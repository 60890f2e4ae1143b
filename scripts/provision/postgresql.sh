# Sourced by the scripts that provision a virtual machine: Debian's PostgreSQL and the database of one service.
# shellcheck shell=bash

# run_postgresql NAME USER PASSWORD: runs the server, on localhost only, and creates the database with the role that
# owns it.
run_postgresql() {
    local changed=no version unit
    begin_step "database $1"
    find_postgres
    become_postgres
    version=$("$pg/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
    unit=postgresql@$version-main
    [[ -d /etc/postgresql/$version/main ]] || pg_createcluster "$version" main
    enable_unit postgresql
    # Debian's pg_hba.conf lets the system's user postgres in by the socket without a password, and asks everybody who
    # comes by TCP for one.
    put_file "/etc/postgresql/$version/main/conf.d/crud-master.conf" 644 <<'END'
# Written by scripts/provision. Nobody outside this machine has business here.
listen_addresses = 'localhost'
password_encryption = 'scram-sha-256'
# Room for the connections of one service and some people, in a small machine.
max_connections = 40
shared_buffers = 48MB
END
    if [[ $changed == yes ]] || ! systemctl is-active --quiet "$unit"; then systemctl restart "$unit"; fi
    # The socket folder of Debian's server, through which make_database and cluster_answers connect as the superuser.
    # shellcheck disable=SC2034 # superuser reads it
    pg_socket=/var/run/postgresql
    wait_for "$start_limit" cluster_answers 5432 || fail "PostgreSQL does not answer; see journalctl -u $unit"
    make_database 5432 "$@"
}
