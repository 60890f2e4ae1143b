# Sourced by the scripts: finding PostgreSQL, and a private cluster in a folder.
# shellcheck shell=bash

# Put before a command, it makes root run it as the user postgres, since PostgreSQL refuses to be root.
as_postgres=()

# find_postgres [MAJOR]: sets pg to the folder with initdb, postgres and psql. A wrapper in PATH stands alone; the real
# programs, links resolved, stand together. With MAJOR, only that version will do: a cluster belongs to one.
find_postgres() {
    local candidate folder candidates=()
    candidate=$(command -v initdb) && candidates+=("$(readlink -f -- "$candidate")")
    # The newest first.
    while IFS= read -r folder; do
        candidates+=("$folder/initdb")
    done < <(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5,5nr)
    for candidate in "${candidates[@]}"; do
        folder=$(dirname -- "$candidate")
        [[ -x $folder/initdb && -x $folder/postgres && -x $folder/psql ]] || continue
        [[ -z ${1-} || $("$folder/postgres" --version) == *" $1"[.\ ]* ]] || continue
        pg=$folder
        return 0
    done
    fail "PostgreSQL${1+ $1} is not installed; its package in Debian is $(package_of postgres)"
}

# become_postgres: sets as_postgres.
become_postgres() {
    ((EUID == 0)) || return 0
    id -u postgres >/dev/null 2>&1 ||
        fail "root cannot run PostgreSQL, and there is no user postgres to run it (Debian's package makes one)"
    if command -v setpriv >/dev/null; then
        as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups --)
    else
        as_postgres=(runuser -u postgres --)
    fi
}

# make_cluster FOLDER: makes FOLDER/cluster, and FOLDER/socket for its unix socket, unless they are there. Nobody but
# the owner can look in. Only the owner may connect through the socket, with the rights of the superuser; everybody
# else comes by TCP with a password. Sets pg, pg_cluster and pg_socket.
make_cluster() {
    local home=$1 unusable
    become_postgres
    mkdir -p -- "$(dirname -- "$home")"
    if [[ ! -e $home ]]; then
        rm -f -- "$home"
        mkdir -m 700 -- "$home"
        own "$home"
        if ! "${as_postgres[@]}" test -w "$home"; then
            # A checkout below a folder that only root can enter. The data goes where servers keep theirs.
            rmdir -- "$home"
            unusable=$home
            home=$(mktemp -d /var/lib/crud-master.XXXXXX)
            own "$home"
            ln -s -- "$home" "$unusable"
            say "The user postgres cannot enter $unusable; PostgreSQL's data goes to $home."
        fi
    fi
    home=$(readlink -f -- "$1")
    pg_cluster=$home/cluster
    if [[ -s $pg_cluster/PG_VERSION ]]; then
        find_postgres "$(<"$pg_cluster/PG_VERSION")"
    else
        find_postgres
        say "Making a PostgreSQL cluster in $pg_cluster."
        # Complete or not there at all, even if this is interrupted.
        rm -rf -- "$pg_cluster" "$pg_cluster.new"
        (cd / && "${as_postgres[@]}" "$pg/initdb" --pgdata="$pg_cluster.new" --encoding=UTF8 --locale=C.UTF-8 \
            --auth-local=peer --auth-host=scram-sha-256 >/dev/null) || fail "initdb failed"
        mv -- "$pg_cluster.new" "$pg_cluster"
    fi
    pg_socket=$home/socket
    # The path of a socket may have 107 bytes.
    ((${#pg_socket} <= 90)) || pg_socket=/tmp/crud-master-$(cksum <<<"$home" | cut -d' ' -f1)
    if [[ ! -d $pg_socket ]]; then
        mkdir -m 700 -- "$pg_socket"
        own "$pg_socket"
    fi
    # In /tmp, somebody else could have been there first.
    [[ $(stat -c %u -- "$pg_socket") == "$(stat -c %u -- "$pg_cluster")" ]] || fail "$pg_socket belongs to somebody else"
}

# own FOLDER: gives it to the user who runs PostgreSQL.
own() {
    ((EUID != 0)) || chown postgres: -- "$1"
}

# cluster_command PORT [OPTION…]: sets command to what runs the server in the foreground.
cluster_command() {
    local port=$1
    shift
    # shellcheck disable=SC2034 # the caller reads it
    command=("${as_postgres[@]}" "$pg/postgres" -D "$pg_cluster" -p "$port" -c "listen_addresses=127.0.0.1"
        -c "unix_socket_directories=\"$pg_socket\"" "$@")
}

# superuser PORT [psql arguments…]: psql as the superuser, through the socket.
superuser() {
    local port=$1
    shift
    (
        unset "${!PG@}"
        cd /
        exec "${as_postgres[@]}" "$pg/psql" -X -q -v ON_ERROR_STOP=1 -h "$pg_socket" -p "$port" -d postgres "$@"
    )
}

# cluster_answers PORT: whether the server takes connections.
cluster_answers() { superuser "$1" -c 'SELECT 1' >/dev/null 2>&1; }

# make_database PORT NAME USER PASSWORD: makes the role and the database it owns, unless they are there. The password
# is set again each time, so that a change in .env takes effect. It travels in the environment, where other users
# cannot see it, and psql quotes it. How text is stored and compared does not depend on the cluster's own locale.
make_database() {
    local port=$1
    DB_NAME=$2 DB_USER=$3 DB_PASSWORD=$4 superuser "$port" <<'SQL'
\set name `printf %s "$DB_NAME"`
\set user `printf %s "$DB_USER"`
\set password `printf %s "$DB_PASSWORD"`
SELECT format('CREATE ROLE %I LOGIN', :'user') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'user') \gexec
ALTER ROLE :"user" PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I ENCODING ''UTF8'' LOCALE ''C.UTF-8'' TEMPLATE template0', :'name', :'user')
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
SQL
}
