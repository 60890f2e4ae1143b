# Sourced by the scripts: finding PostgreSQL, and a private cluster in a folder.
# shellcheck shell=bash

# A command prefix: makes root run a command as the user postgres, since PostgreSQL refuses to run as root.
as_postgres=()

# The data of a checkout that the user postgres cannot enter is in a folder of this name with a dot and six characters.
# It holds the data in "postgres" and its "owner" in three lines: the device and inode of the checkout, its path, and
# the path of the link that leads here.
places=/var/lib/crud-master

# find_postgres [MAJOR]: sets pg to the folder with initdb, postgres and psql. A folder with fewer of
# them, such as one of wrappers in PATH, does not count. With MAJOR, only that version is accepted, because a cluster
# belongs to one version.
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

# make_cluster FOLDER: makes FOLDER/cluster, and FOLDER/socket for its unix socket, unless they are there. Only the
# owner can read them. Only the owner may connect through the socket, as the superuser; everybody else connects by TCP
# with a password. Sets pg, pg_cluster and pg_socket.
make_cluster() {
    local home=$1
    become_postgres
    mkdir -p -- "$(dirname -- "$home")"
    if [[ ! -e $home ]]; then
        rm -f -- "$home"
        remove_orphans
        mkdir -m 700 -- "$home"
        own "$home"
        if ! "${as_postgres[@]}" test -w "$home"; then
            # The checkout is in a folder that only root can enter, so the data goes to /var/lib.
            rmdir -- "$home"
            make_place "$home"
        fi
    elif [[ -L $home ]]; then
        keep_place "$home"
    fi
    home=$(readlink -f -- "$1")
    pg_cluster=$home/cluster
    if [[ -s $pg_cluster/PG_VERSION ]]; then
        find_postgres "$(<"$pg_cluster/PG_VERSION")"
    else
        find_postgres
        say "Making a PostgreSQL cluster in $pg_cluster."
        # Created under another name and renamed, so that an interruption leaves no incomplete cluster.
        rm -rf -- "$pg_cluster" "$pg_cluster.new"
        (cd / && "${as_postgres[@]}" "$pg/initdb" --pgdata="$pg_cluster.new" --encoding=UTF8 --locale=C.UTF-8 \
            --auth-local=peer --auth-host=scram-sha-256 >/dev/null) || fail "initdb failed"
        mv -- "$pg_cluster.new" "$pg_cluster"
    fi
    pg_socket=$home/socket
    # The path of a unix socket has at most 107 bytes.
    ((${#pg_socket} <= 90)) || pg_socket=/tmp/crud-master-$(cksum <<<"$home" | cut -d' ' -f1)
    if [[ ! -d $pg_socket ]]; then
        mkdir -m 700 -- "$pg_socket"
        own "$pg_socket"
    fi
    # In /tmp, somebody else could have created it first.
    [[ $(stat -c %u -- "$pg_socket") == "$(stat -c %u -- "$pg_cluster")" ]] || fail "$pg_socket belongs to somebody else"
}

# make_place LINK: a folder outside the checkout, with a link to it.
make_place() {
    local place
    place=$(mktemp -d "$places.XXXXXX")
    chmod 711 -- "$place"
    mkdir -m 700 -- "$place/postgres"
    own "$place/postgres"
    # The link comes before the owner, so that remove_orphans of another checkout never finds an owner without a link.
    ln -s -- "$place/postgres" "$1"
    claim_place "$place" "$1"
    say "The user postgres cannot enter $1, so PostgreSQL's data goes to $place. To remove all data, remove"
    say "$data: the next start then removes $place, too."
}

# claim_place PLACE LINK: records the checkout that owns it.
claim_place() { printf '%s\n' "$(identity_of "$root")" "$root" "$2" >"$1/owner"; }

# identity_of FOLDER: its device and inode, which stay the same when it is moved.
identity_of() { stat -c %d:%i -- "$1" 2>/dev/null || echo none; }

# keep_place LINK: a checkout that was moved keeps its place; one that was copied would write into the other's.
keep_place() {
    local place target checkout path link
    target=$(readlink -- "$1")
    place=${target%/postgres}
    [[ $place == "$places".* && -r $place/owner ]] || return 0
    { read -r checkout && IFS= read -r path && IFS= read -r link; } <"$place/owner" || return 0
    if [[ $link != "$1" && $(readlink -- "$link") == "$target" ]]; then
        fail "$1 leads to the data of $path; remove it with rm $1 to begin with none"
    fi
    claim_place "$place" "$1"
}

# remove_orphans: removes the places of checkouts whose data was removed, and names those whose checkout is not where it
# was: it may have been moved, and then still needs its place.
remove_orphans() {
    local owner place checkout path link
    for owner in "$places".*/owner; do
        [[ -r $owner ]] || continue
        place=$(dirname -- "$owner")
        { read -r checkout && IFS= read -r path && IFS= read -r link; } <"$owner" || continue
        [[ $(readlink -- "$link") != "$place/postgres" ]] || continue
        if [[ $checkout != "$(identity_of "$path")" ]]; then
            say "$place is from a checkout that was at $path. Unless that was moved, remove it with rm -r $place"
        elif is_served "$place/postgres/cluster"; then
            say "$place is from $link, which is gone, but a PostgreSQL still runs in it."
        else
            say "Removing $place, the data of $link, which was removed."
            rm -rf -- "$place"
        fi
    done
}

# is_served CLUSTER: whether a server may be running in it, by the process id in postmaster.pid.
is_served() {
    local process
    [[ -r $1/postmaster.pid ]] && read -r process <"$1/postmaster.pid" && [[ -e /proc/$process ]]
}

# remove_cluster FOLDER: removes what make_cluster created, inside or outside the checkout.
remove_cluster() {
    local target
    target=$(readlink -- "$1") || target=''
    if [[ $target == "$places".*/postgres ]]; then rm -rf -- "${target%/postgres}"; fi
    rm -rf -- "$1"
}

# own FOLDER: gives it to the user who runs PostgreSQL.
own() {
    ((EUID != 0)) || chown postgres: -- "$1"
}

# cluster_command PORT [OPTION…]: sets command to the command that runs the server in the foreground.
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

# make_database PORT NAME USER PASSWORD: makes the role and the database it owns, unless they are there. The password is
# set again each time, so that a change in .env takes effect. It is passed in the environment, where other users cannot
# see it, and psql quotes it. The database's encoding and collation do not depend on the cluster's locale.
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
