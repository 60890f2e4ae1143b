#!/usr/bin/env bash
# Tries how the scripts and the Vagrantfile read .env and .env.local, with every case of tests/cases/settings.tsv, and
# what check_settings says about wrong values.
#
#   scripts/tests/read-settings.sh [shell|ruby]     shell is what it tries when nothing is given
set -euo pipefail

project=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
reader=${1:-shell}
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
failures=0 tried=0
# The caller's settings would override those that are tested.
for name in $(compgen -e | grep -E '^(GATEWAY|INVENTORY|BILLING|RABBITMQ|BROKER|LOG|VM)_' || true); do
    unset "$name"
done

main() {
    case $reader in
        shell) table_in_shell && precedence in_shell && checks ;;
        ruby) table_in_ruby && precedence in_ruby ;;
        *) problem "unknown argument $reader; it can be shell or ruby" ;;
    esac
    ((failures == 0)) || exit 1
    printf 'read-settings.sh %s: %s passed, 0 failed\n' "$reader" "$tried"
}

problem() {
    printf '%s\n' "$*" >&2
    failures=$((failures + 1))
}

# make_cases: a folder for each case, with the file and what is expected of it.
make_cases() {
    local what content expected number=0
    while IFS=$'\t' read -r what content expected; do
        # Lines without tabs are explanations.
        [[ $content$expected != '' ]] || continue
        number=$((number + 1))
        folder=$work/$number
        mkdir -- "$folder"
        printf %s "$what" >"$folder/what"
        printf %s "$content" | visible_to_real >"$folder/.env"
        printf %s "$expected" | visible_to_real >"$folder/expected"
        cases+=("$folder")
    done < <(sed 's/\t\t/\t␥\t/' "$project/tests/cases/settings.tsv")
    ((number > 100)) || problem "only $number cases were found"
}

visible_to_real() {
    LC_ALL=C sed -e 's/␥//g; s/␊/\n/g; s/␍/\r/g; s/␉/\t/g; s/␀/\x00/g; s/␛/\x1b/g; s/␜/\xef\xbb\xbf/g; s/␦/\xff/g'
}

# compare_cases: each folder has the file "read" with NAME=value lines in the order of their names, or the file
# "refused" with the message.
compare_cases() {
    tried=${#cases[@]}
    local folder what expected message number name
    for folder in "${cases[@]}"; do
        what=$(<"$folder/what") expected=$(<"$folder/expected") message=''
        if [[ -e $folder/refused ]]; then message=$(<"$folder/refused"); fi
        if [[ $expected == refused* ]]; then
            read -r _ number name <<<"$expected"
            [[ -n $message && $message == *".env, line $number: ${name:-it} "* && $message != *s3cr* ]] ||
                problem "$what: not refused as line $number: ${name:-it}, but: ${message:-$(<"$folder/read")}"
        elif [[ $message != '' ]]; then
            problem "$what: $message"
        else
            if [[ $expected == nothing ]]; then : >"$folder/expected"; else printf '\n' >>"$folder/expected"; fi
            cmp -s -- "$folder/expected" "$folder/read" ||
                problem "$what: $(<"$folder/read") instead of $(<"$folder/expected")"
        fi
    done
}

table_in_shell() {
    local cases=() folder
    make_cases
    for folder in "${cases[@]}"; do
        (
            # shellcheck source=../lib/project.sh
            . "$project/scripts/lib/project.sh"
            declare -A setting_value=()
            # shellcheck disable=SC2034 # read_settings sets it
            declare -A setting_file=()
            read_settings "$folder/.env" 2>"$folder/message"
            for name in "${!setting_value[@]}"; do
                printf '%s=%s\n' "$name" "${setting_value[$name]}"
            done | LC_ALL=C sort >"$folder/read"
        ) || mv -- "$folder/message" "$folder/refused"
    done
    compare_cases
}

table_in_ruby() {
    local cases=()
    make_cases
    LC_ALL=C ruby -r "$project/scripts/lib/settings.rb" -e '
        ARGV.each do |folder|
          settings = Settings.read(File.join(folder, ".env"))
          File.binwrite(File.join(folder, "read"), settings.sort.map { |name, value| "#{name}=#{value}\n" }.join)
        rescue Settings::Error => e
          File.binwrite(File.join(folder, "refused"), e.message)
        end' "${cases[@]}"
    compare_cases
}

# precedence READER: .env.local wins over .env.
precedence() {
    local folder=$work/precedence values
    mkdir -p -- "$folder/scripts"
    ln -s -- "$project/scripts/lib" "$folder/scripts/lib"
    printf 'A=file\nB=file\nC=file\n' >"$folder/.env"
    values=$("$1" "$folder")
    [[ $values == 'A=file B=file C=file' ]] || problem "without .env.local: $values"
    printf "B='local'\nC=\n" >"$folder/.env.local"
    values=$("$1" "$folder")
    [[ $values == 'A=file B=local C=' ]] || problem "with .env.local: $values"
    printf 'B=s3cret local\n' >"$folder/.env.local"
    if values=$("$1" "$folder" 2>&1); then problem "a malformed .env.local is taken"; fi
    [[ $values == *'.env.local, line 1: B '* && $values != *s3cret* ]] || problem "a malformed .env.local: $values"
}

in_shell() {
    (
        copy_of_project "$1"
        load_settings
        printf %s "A=$A B=$B C=$C"
    )
}

in_ruby() {
    ruby -r "$project/scripts/lib/settings.rb" \
        -e 'print Settings.of(ARGV[0]).sort.map { |pair| pair.join("=") }.join(" ")' "$1"
}

# copy_of_project FOLDER: the scripts' library, for the settings of another folder.
copy_of_project() {
    # shellcheck source=../lib/project.sh
    . "$project/scripts/lib/project.sh"
    # shellcheck disable=SC2034 # the library uses it
    root=$1
}

# checks: tests check_settings with wrong and right values.
checks() {
    local folder=$work/checks
    mkdir -- "$folder"
    printf '%s\n' A_PORT=3000 GATEWAY_PORT=3000 '#GATEWAY_IDLE_TIMEOUT_MS=60000' '#GATEWAY_MAX_CONNECTIONS=1024' \
        '#INVENTORY_URL=http://a:1' '#RABBITMQ_HOST=' "RABBITMQ_PASSWORD='s3cret'" LOG_LEVEL=info '#BROKER_USERS=' \
        '#GATEWAY_SERVICES=' '#BROKER_CONSUMER_TIMEOUT_MS=1800000' \
        >"$folder/.env"
    says ''
    says '' GATEWAY_PORT=1 GATEWAY_IDLE_TIMEOUT_MS=1 GATEWAY_MAX_CONNECTIONS=1 LOG_LEVEL=Debug INVENTORY_URL=x
    says '' GATEWAY_PORT=65535 GATEWAY_IDLE_TIMEOUT_MS= LOG_LEVEL= BROKER_CONSUMER_TIMEOUT_MS=0
    says 'GATEWAY_PORT must be a whole number from 1 to 65535' GATEWAY_PORT=65536
    says 'GATEWAY_PORT must be a whole number from 1 to 65535' GATEWAY_PORT=0
    says 'GATEWAY_PORT must be a whole number from 1 to 65535' GATEWAY_PORT=0x10
    # shellcheck disable=SC2016 # nothing of this may expand
    says 'GATEWAY_PORT must be a whole number from 1 to 65535' GATEWAY_PORT='a[$(touch s3cret)]'
    says 'GATEWAY_PORT must be a whole number from 1 to 65535' GATEWAY_PORT=s3cret
    says 'A_PORT must be a whole number from 1 to 65535' A_PORT=99999999999999999999
    says 'GATEWAY_PORT is empty' GATEWAY_PORT=
    says 'GATEWAY_IDLE_TIMEOUT_MS must be a whole number from 1 to 86400000' GATEWAY_IDLE_TIMEOUT_MS=0
    says 'GATEWAY_MAX_CONNECTIONS must be a whole number from 1 to 65536' GATEWAY_MAX_CONNECTIONS=-1
    says 'GATEWAY_MAX_CONNECTIONS must be a whole number from 1 to 65536' GATEWAY_MAX_CONNECTIONS=0
    says 'GATEWAY_MAX_CONNECTIONS must be a whole number from 1 to 65536' GATEWAY_MAX_CONNECTIONS=65537
    services
    says 'LOG_LEVEL must be one of error, warn, info, debug and trace' LOG_LEVEL=loud
    says 'RABBITMQ_PASSWORD is empty'$'\n''LOG_LEVEL must be one of error, warn, info, debug and trace' \
        RABBITMQ_PASSWORD= LOG_LEVEL=loud
    says 'warning: there is no setting GATEWAY_PROT; is GATEWAY_PORT meant?' GATEWAY_PROT=1
    says 'warning: there is no setting GATEWAY_SPEED' GATEWAY_SPEED=1
    says 'warning: there is no setting RABBITMQ_PASWORD; is RABBITMQ_PASSWORD meant?' RABBITMQ_PASWORD=s3cret
    says 'warning: there is no setting LOG_LEVELS; is LOG_LEVEL meant?' LOG_LEVELS=info
    says '' RABBITMQ_NODENAME=rabbit RABBITMQ_HOME=/opt LOG_FOLDER=/ VM_NAME=x HOME=/ BROKER_PASSWORD_AUDIT=s3cret
    printf 'SPEED=1\nGATEWAY_PORT=4000\n' >"$folder/.env.local"
    says 'warning: there is no setting SPEED'
    rm -- "$folder/.env.local"
    sed -i /^GATEWAY_PORT/d "$folder/.env"
    says $'GATEWAY_PORT is not set'
}

# services: the settings of a further service are checked as well; .env need not have any of them.
services() {
    local todo=(GATEWAY_SERVICES=todo=/todo TODO_DB_NAME=todo_db TODO_DB_USER=todo)
    says '' "${todo[@]}" TODO_WORKERS=256 TODO_PRIVATE_PORT=0 TODO_OWNER=0 GATEWAY_TODO_BODY_MAX_BYTES=67108864
    says 'TODO_WORKERS must be a whole number from 1 to 256' "${todo[@]}" TODO_WORKERS=257
    says 'TODO_PRIVATE_PORT must be a whole number from 0 to 65535' "${todo[@]}" TODO_PRIVATE_PORT=65536
    says 'GATEWAY_TODO_BODY_MAX_BYTES must be a whole number from 1 to 67108864' "${todo[@]}" \
        GATEWAY_TODO_BODY_MAX_BYTES=67108865
}

# says MESSAGE [NAME=VALUE…]: what check_settings prints with these variables in the environment; it fails unless that
# is nothing or a warning.
says() {
    local expected=$1 found status=0 wanted=0
    shift
    found=$( (
        copy_of_project "$work/checks"
        for setting; do export "${setting?}"; done
        load_settings
        check_settings GATEWAY_PORT RABBITMQ_PASSWORD
    ) 2>&1) || status=$?
    found=${found#"${0##*/}: "}
    if [[ $expected != '' && $expected != warning:* ]]; then wanted=1; fi
    [[ $found == "$expected" && $status == "$wanted" ]] ||
        problem "with $*: status $status, \"$found\" instead of \"$expected\""
}

main
