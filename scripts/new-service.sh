#!/usr/bin/env bash
# Makes a new service behind the gateway: a folder with its sources, first migration, tests and README, its place in the
# workspace, and its settings in .env. From then on it is yours to change; nothing generates it again.
#
#   scripts/new-service.sh NAME [FIELD:TYPE[:MARK…] …]
#   scripts/new-service.sh pizzas title:text:required:searchable price:decimal kind:word=meat,vegan:filterable
#   scripts/new-service.sh --remove NAME     takes out what was made, if it is unchanged; databases stay
#
# NAME is a plural of small letters, digits and hyphens; the service is at services/NAME and its records at /api/NAME.
# Types: text, url, uuid, integer, decimal, boolean, date, timestamp, word=one,two. Marks: required, unique, searchable,
# filterable, sortable. Without fields, a record has a name and a description.
#
# Everything is made or nothing: what fails or is interrupted is undone.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"
# shellcheck source=lib/fields.sh
. "$here/lib/fields.sh"

templates=$root/scripts/templates/service
# What the platform, its crates and PostgreSQL use for themselves; Cargo.lock has the names of all other crates.
reserved=' all alloc billing broker core dead-letters examples gateway inventory log movies none orders pg postgres
 postgresql proc-macro public rabbitmq rust cargo scripts services sql status std test tests vm '

main() {
    case ${1-} in
        -h | --help) show_help ;;
        --remove)
            (($# == 2)) || fail "--remove needs one name; see scripts/new-service.sh --help"
            take_lock
            remove "$2"
            ;;
        -*) fail "unknown option $1; see scripts/new-service.sh --help" ;;
        '') fail "a service needs a name; see scripts/new-service.sh --help" ;;
        *)
            take_lock
            add "$@"
            ;;
    esac
}

# take_lock: there is one at a time.
take_lock() {
    mkdir -p -- "$data"
    exec 9>"$data/new-service.lock"
    flock -n 9 || fail "another scripts/new-service.sh is at work"
}

add() {
    local arguments=$*
    service=$1
    shift
    (($# > 0)) || set -- name:text:required:searchable description:text
    check_name
    choose_names
    check_path
    read_fields "$table" "$@"
    choose_ports
    need_cargo
    begin
    stage
    edit_env
    edit_workspace
    apply
    say "Made services/$service: $one, $many at $path, listening on port $port, database ${table}_db."
    cat <<END2

  cargo test -p $service
  scripts/run.sh
  curl -s localhost:${GATEWAY_PORT:-3000}$path -H 'Content-Type: application/json' -d '{$(json_line)}'

Its rules are in services/$service/src/resource.rs, its settings in .env.
END2
}

# check_name: fails unless the name is well formed and free.
check_name() {
    local other
    [[ $service =~ ^[a-z][a-z0-9]*(-[a-z0-9]+)*$ && ${#service} -le 30 ]] ||
        fail "'$service' is no name for a service: small letters, digits and single hyphens, at most 30, such as my-pizzas"
    [[ $reserved != *[[:space:]]"$service"[[:space:]]* && $service != pg-* ]] || fail "the name $service is reserved"
    ! grep -qxF "name = \"$service\"" "$root/Cargo.lock" || fail "the name $service is taken by a crate"
    [[ ! -e $root/services/$service && ! -e $root/$service ]] || fail "the name $service is taken by a folder"
    load_own_settings
    variable=$(variable_of "$service")
    # MY_ would be the beginning of MY_PIZZAS_, too, so that nobody could tell the settings apart.
    local -A default=()
    read_defaults
    for other in "${!default[@]}" $(compgen -e); do
        [[ $other != "${variable}_"* ]] || fail "the name $service is taken: there is a setting $other"
    done
    for other in GATEWAY INVENTORY BILLING BROKER RABBITMQ LOG VM $(service_variables); do
        [[ $variable != "${other}_"* ]] || fail "the name $service cannot be used, since settings with ${other}_ are another's"
    done
}

# load_own_settings: loads the settings. The list of services must be that of .env, which is going to be changed.
load_own_settings() {
    [[ ! -v GATEWAY_SERVICES ]] || fail "GATEWAY_SERVICES in the environment overrides that of .env; unset it"
    load_settings
    [[ ${given[GATEWAY_SERVICES]-} != .env.local ]] ||
        fail "GATEWAY_SERVICES in .env.local overrides that of .env; move it there"
}

# service_variables: what the settings of the services begin with that .env names.
service_variables() {
    local name
    while IFS= read -r name; do
        variable_of "$name"
        printf '\n'
    done < <(gateway_services)
}

# choose_names: what a record, several of them and their table are called, and their path.
choose_names() {
    many=${service//-/ } one=$many
    case $many in
        *ies) one=${many%ies}y ;;
        *sses | *shes | *ches | *xes) one=${many%es} ;;
        *ss | *us | *is) many+=es ;;
        *s) one=${many%s} ;;
        *) many+=s ;;
    esac
    table=${many// /_} path=/api/$service about="${many^}: create, read, search, change and delete them."
}

# check_path: fails if requests for the path would also be requests for another service. The gateway would not start.
check_path() {
    local entry other
    while IFS= read -r entry; do
        other=${entry#*=}
        [[ $path/ != "$other"/* && $other/ != "$path"/* ]] ||
            fail "the path $path is taken: GATEWAY_SERVICES has ${entry%%=*} at $other"
    done < <(gateway_entries)
}

# choose_ports: the first public and private one that no setting has and nobody uses now.
choose_ports() {
    port=$(free_port_from 8100)
    private_port=$(free_port_from 9320)
}

free_port_from() {
    local candidate=$1
    while grep -qsE "^#?[A-Z_0-9]+_PORT=['\"]?${candidate}['\"]?([[:space:]]|\$)" "$root/.env" "$root/.env.local" ||
        port_is_open 127.0.0.1 "$candidate"; do
        candidate=$((candidate + 1))
    done
    printf %s "$candidate"
}

# begin: a folder for what is made, and for copies of what is changed; until commit, everything is undone at the end.
begin() {
    stage=$(mktemp -d "$data/new-service.XXXXXX")
    trap undo EXIT
    trap 'exit 130' INT TERM HUP
    cp -p -- "$root/Cargo.toml" "$root/Cargo.lock" "$root/.env" "$stage/"
    mkdir -- "$stage/before"
    cp -p -- "$root/Cargo.toml" "$root/Cargo.lock" "$root/.env" "$stage/before/"
}

# undo: puts back what was changed, unless everything is done. doing is nothing, adding or removing.
doing=nothing
undo() {
    set +e
    trap '' INT TERM HUP
    if [[ $doing != nothing ]]; then
        say "Undoing what was done so far." >&2
        if [[ $doing == adding ]]; then
            rm -rf -- "${root:?}/services/$service"
        elif [[ -d $stage/removed ]]; then
            mv -T -- "$stage/removed" "$root/services/$service"
        fi
        cp -p -- "$stage/before/Cargo.toml" "$stage/before/Cargo.lock" "$stage/before/.env" "$root/"
    fi
    rmdir -- "$root/services" 2>/dev/null
    rm -rf -- "$stage"
}

# stage: the folder of the service, from the templates.
stage() {
    local file target text folder=$stage/service
    mkdir -p -- "$folder"/{src,sql,tests}
    for file in Cargo.toml README.md src/{main,settings,resource}.rs sql/0001.sql tests/contract.rs; do
        target=$folder/${file/0001.sql/0001_$table.sql}
        # The dot keeps the line feeds at the end.
        text=$(cat -- "$templates/$file" && printf .)
        fill "${text%.}" >"$target"
    done
    # How lines are broken depends on their lengths.
    if (cd "$root" && rustfmt --version) >/dev/null 2>&1; then
        (cd "$root" && rustfmt --edition 2024 --config-path "$root" "$folder"/src/main.rs "$folder"/tests/contract.rs) ||
            fail "rustfmt does not understand what was made"
    fi
}

# fill TEXT: prints it with the names in @ replaced.
fill() {
    local text=$1 extension='' indexes=''
    if [[ $is_searched == yes ]]; then extension=$'\nCREATE EXTENSION IF NOT EXISTS pg_trgm;\n'; fi
    if [[ -n $sql_indexes ]]; then indexes=$'\n'"$sql_indexes"; fi
    text=${text//@FIELDS@/"$rust_fields"}
    text=${text//@COLUMNS@/"$sql_columns"}
    text=${text//@INDEXES@$'\n'/"$indexes"}
    text=${text//@EXTENSION@/"$extension"}
    text=${text//@EXAMPLE@/"$json_members"}
    text=${text//@JSON@/"{$(json_line)}"}
    text=${text//@FIRST@/"$first_field"}
    text=${text//@ABOUT@/"$about"}
    text=${text//@NAME@/"$service"}
    text=${text//@VARIABLE@/"$variable"}
    text=${text//@ONE@/"$one"}
    text=${text//@MANY@/"$many"}
    text=${text//@TABLE@/"$table"}
    text=${text//@PATH@/"$path"}
    text=${text//@PORT@/"$port"}
    text=${text//@PRIVATE_PORT@/"$private_port"}
    text=${text//@ARGUMENTS@/"$arguments"}
    printf %s "$text"
}

# json_line: the example in one line.
json_line() {
    local line=${json_members//$'\n'/ }
    printf %s "$line" | tr -s ' ' | sed 's/^ //'
}

# settings_block: the lines of .env for the service.
settings_block() {
    local rule
    printf -v rule '%*s' $((112 - ${#service})) ''
    cat <<END2

# --- $service ${rule// /-}

# Where it listens. Only the gateway should be able to reach it.
${variable}_HOST=127.0.0.1
${variable}_PORT=$port
# The private listener: /ready with causes and /metrics, for people and monitoring on this machine.
#${variable}_PRIVATE_PORT=$private_port

# Worker threads, each with one connection to PostgreSQL.
#${variable}_WORKERS=8
# The largest request body.
#${variable}_BODY_MAX_BYTES=262144
# For the catalogue of services: who is responsible, how to reach them, where the sources are.
#${variable}_OWNER=
#${variable}_CONTACT=
#${variable}_REPOSITORY=

# Its database.
${variable}_DB_HOST=127.0.0.1
${variable}_DB_PORT=${INVENTORY_DB_PORT:-15432}
${variable}_DB_NAME=${table}_db
${variable}_DB_USER=$table
${variable}_DB_PASSWORD='$(tr -dc A-Za-z0-9 </dev/urandom | head -c 20 || true)'
END2
}

# edit_env: the copy of .env gets the block and the prefix.
edit_env() {
    settings_block >"$stage/block"
    put_services "${GATEWAY_SERVICES:+$GATEWAY_SERVICES,}$service=$path"
    cat -- "$stage/block" >>"$stage/.env"
    write_manifest
}

# put_services VALUE: sets GATEWAY_SERVICES in the copy of .env; empty comments it out.
put_services() {
    local line="GATEWAY_SERVICES=$1" count
    [[ $1 =~ ^[A-Za-z0-9_./:,@%+=-]*$ ]] || line="GATEWAY_SERVICES='$1'"
    [[ -n $1 ]] || line="#GATEWAY_SERVICES="
    count=$(grep -cE '^(#|export )?GATEWAY_SERVICES=' "$stage/.env" || true)
    [[ $count == 1 ]] || fail ".env must have one line GATEWAY_SERVICES=… or #GATEWAY_SERVICES=, and has $count"
    LINE=$line awk '/^(#|export )?GATEWAY_SERVICES=/ { print ENVIRON["LINE"]; next } { print }' "$stage/.env" >"$stage/env"
    # Keeps the mode.
    cat -- "$stage/env" >"$stage/.env"
}

# edit_workspace: the copy of Cargo.toml gets the member.
edit_workspace() {
    MEMBER="    \"services/$service\"," awk '
        /^members = \[/ { inside = 1 }
        inside && /^\]/ { print ENVIRON["MEMBER"]; inside = 0; done = 1 }
        { print }
        END { exit !done }' "$stage/Cargo.toml" >"$stage/toml" ||
        fail "Cargo.toml has no line 'members = [', or no ] behind it"
    cat -- "$stage/toml" >"$stage/Cargo.toml"
}

# write_manifest: what --remove compares with: the sums of all files and of the block in .env.
write_manifest() {
    (
        cd "$stage/service"
        find . -type f ! -name .generated -print0 | LC_ALL=C sort -z | xargs -0 sha256sum --
        printf '%s  .env\n' "$(sum_of_block "$stage/block")"
    ) >"$stage/manifest"
    mv -- "$stage/manifest" "$stage/service/.generated"
}

sum_of_block() { sha256sum <"$1" | cut -d' ' -f1; }

# apply: moves everything into place, and has cargo add the service to Cargo.lock.
apply() {
    doing=adding
    mkdir -p -- "$root/services"
    mv -T -- "$stage/service" "$root/services/$service"
    mv -f -- "$stage/Cargo.toml" "$root/Cargo.toml"
    mv -f -- "$stage/.env" "$root/.env"
    settle_lock
    doing=nothing
}

# settle_lock: Cargo.lock follows Cargo.toml. Nothing new is needed, so that this works without a network as well.
settle_lock() {
    local complaint
    complaint=$(cd "$root" && { cargo metadata --offline --format-version 1 || cargo metadata --format-version 1; } 2>&1 \
        >/dev/null) || fail "cargo does not accept it: $complaint"
}

remove() {
    service=$1
    local folder=$root/services/$1 changed entry rest=() entries=()
    [[ $service =~ ^[a-z][a-z0-9-]*$ && -r $folder/.generated ]] || fail "scripts/new-service.sh has made no service '$service'"
    load_own_settings
    variable=$(variable_of "$service")
    need_cargo
    begin
    changed=$(changed_files "$folder")
    [[ -z $changed ]] || fail "these files of services/$service are not as they were made; remove it by hand: $changed"
    cut_block
    IFS=, read -r -a entries <<<"${GATEWAY_SERVICES-}"
    for entry in "${entries[@]}"; do
        [[ ${entry//[[:space:]]/} == "$service="* ]] || rest+=("$entry")
    done
    put_services "$(IFS=, && printf %s "${rest[*]-}")"
    grep -vxF "    \"services/$service\"," "$root/Cargo.toml" >"$stage/toml" || true
    cat -- "$stage/toml" >"$stage/Cargo.toml"
    doing=removing
    mv -T -- "$folder" "$stage/removed"
    mv -f -- "$stage/Cargo.toml" "$root/Cargo.toml"
    mv -f -- "$stage/.env" "$root/.env"
    settle_lock
    doing=nothing
    say "Removed services/$service and its settings. Its database, if scripts/run.sh has made it, is still there."
}

# changed_files FOLDER: prints in one line which files are new, gone or different.
changed_files() {
    cd -- "$1"
    {
        find . -type f ! -name .generated -print0 | LC_ALL=C sort -z | xargs -0 sha256sum -- | diff - <(grep '  \./' .generated) |
            sed -n 's/^[<>] [0-9a-f]*  \.\///p' | sort -u | tr '\n' ' '
    } || true
}

# cut_block: takes the service's block out of the copy of .env; fails if it is not as it was made.
cut_block() {
    HEADING="# --- $service -" awk -v block="$stage/block" '
        # The block begins with the empty line before its heading, and ends with its password.
        { line[NR] = $0 }
        END {
            for (i = 1; i <= NR; i++) {
                if (!begun && line[i] == "" && index(line[i + 1], ENVIRON["HEADING"]) == 1) begun = inside = 1
                if (inside) print line[i] >block; else print line[i]
                if (inside && line[i] ~ /_DB_PASSWORD=/) inside = 0
            }
        }' "$stage/.env" >"$stage/env"
    [[ -e $stage/block && "$(sum_of_block "$stage/block")" == "$(sed -n 's/  \.env$//p' "$root/services/$service/.generated")" ]] ||
        fail "the settings of $service in .env have changed since they were made; remove it by hand"
    cat -- "$stage/env" >"$stage/.env"
}

main "$@"
