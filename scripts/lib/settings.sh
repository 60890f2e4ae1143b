# Sourced by project.sh: reads .env and .env.local, and checks what they and the environment give.
#
# The lines are parsed and never evaluated. The top of .env says how a line is written; env_file.rs in
# crates/foundation and settings.rb beside this file follow the same rules, and tests/cases/settings.tsv holds all
# three to them.
# shellcheck shell=bash
# shellcheck disable=SC2154 # root is in project.sh; the arrays belong to the calling function
# shellcheck disable=SC2030,SC2031 # the tests source this in subshells

# What overrides a setting of .env: the environment or .env.local.
declare -gA given=()

# read_settings FILE: adds its settings to the array setting_value of the caller, and the file's name to the array
# setting_file. A line that breaks the rules ends the script; the message has its number and the name of its variable,
# never its value.
read_settings() {
    # The C locale, in which ranges are ASCII and every byte is a character.
    local LC_ALL=C
    # NAME= and a value without quotes, or one in single quotes, or one in double quotes without anything that a shell
    # would expand there. Then perhaps a comment.
    local blank=$'[ \t]' plain='[A-Za-z0-9_./:,@%+=-]*' single="'([^']|'\\\\'')*'" double='"[^"$\\`]*"'
    local setting="^$blank*(export$blank+)?([A-Z][A-Z0-9_]*)=($plain|$single|$double)($blank+#.*)?$blank*\$"
    local nothing="^$blank*(#.*)?\$"
    local file=$1 line text name value number=0 nul_line=0
    local -A line_of=()
    [[ -r $file && ! -d $file ]] || fail "cannot read $file"
    # bash silently drops NUL characters. This read succeeds only if there is one.
    if IFS= read -r -d '' text <"$file"; then
        text=${text//[!$'\n']/}
        nul_line=$((${#text} + 1))
    fi
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        if ((number == 1)); then line=${line#$'\xef\xbb\xbf'}; fi
        line=${line%$'\r'}
        if ((number == nul_line)) || ! is_utf8 "$line"; then
            refuse_line
        elif [[ $line =~ $nothing ]]; then
            continue
        elif [[ $line =~ $setting ]]; then
            name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
            [[ ! -v line_of[$name] ]] ||
                fail "${file##*/}, line $number: $name is set already, on line ${line_of[$name]}"
            line_of[$name]=$number
            case $value in
                \'*) value=${value:1:-1} value=${value//"'\\''"/"'"} ;;
                \"*) value=${value:1:-1} ;;
            esac
            setting_value[$name]=$value
            setting_file[$name]=${file##*/}
        else
            refuse_line
        fi
    done <"$file"
}

# A part of read_settings, whose variables it uses. Everything after the first = may be a password.
refuse_line() {
    local name='it'
    if [[ $line =~ ^$blank*(export$blank+)?([A-Za-z_][A-Za-z0-9_]*)$blank*= ]]; then name=${BASH_REMATCH[2]}; fi
    fail "${file##*/}, line $number: $name cannot be read;" \
        "write NAME=value, or NAME='value' with '\\'' for each ' in it"
}

is_utf8() {
    [[ $1 != *[$'\x80'-$'\xff']* ]] || iconv -f UTF-8 -t UTF-8 <<<"$1" >/dev/null 2>&1
}

# load_settings: exports every setting that the environment does not have; .env.local wins over .env. The services read
# the files themselves; this is for the scripts' own use of the settings.
load_settings() {
    local name
    local -A setting_value=() setting_file=()
    read_settings "$root/.env"
    if [[ -e $root/.env.local ]]; then read_settings "$root/.env.local"; fi
    for name in "${!setting_value[@]}"; do
        if [[ -v $name ]]; then
            given[$name]=environment
        else
            export "$name=${setting_value[$name]}"
            if [[ ${setting_file[$name]} == .env.local ]]; then given[$name]=.env.local; fi
        fi
    done
}

# check_settings NAME…: call it after load_settings, before anything is built or started. Fails with one line for each
# of these settings that is missing or empty, and for each setting with an impossible value; warns of variables that
# look like settings but are none. The ranges of numbers are in ranges.txt; the services check the rest when they start.
check_settings() {
    local name problem problems=() range_of=() range_min=() range_max=()
    local -A default=()
    read_defaults
    read_ranges
    read_services
    warn_of_unknown_settings
    for name; do
        if [[ ! -v $name ]]; then
            problems+=("$name is not set")
        elif [[ -z ${!name} ]]; then
            problems+=("$name is empty")
        fi
    done
    while IFS= read -r name; do
        if ! is_right "$name"; then problems+=("$name must be $problem"); fi
    done < <({ printf '%s\n' "${!default[@]}" "$@" && settings_of_services; } | sort -u)
    ((${#problems[@]} == 0)) || fail "$(printf '%s\n' "${problems[@]}")"
}

# read_defaults: reads every setting in .env, including those in comments, with its value into the caller's array
# default. This is the list of all settings.
read_defaults() {
    local line
    while IFS= read -r line || [[ -n $line ]]; do
        line=${line%$'\r'}
        if [[ ${line#\#} =~ ^([A-Z][A-Z0-9_]*)=(.*)$ ]]; then default[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}; fi
    done <"$root/.env"
}

# read_ranges: reads the ranges of all numbers into the caller's arrays range_of, which has patterns of names, range_min
# and range_max.
read_ranges() {
    local pattern min max
    while read -r pattern min max; do
        [[ -n $pattern && $pattern != \#* ]] || continue
        range_of+=("$pattern") range_min+=("$min") range_max+=("$max")
    done <"${BASH_SOURCE[0]%/*}/ranges.txt"
}

# settings_of_services: prints the variables of the further services, of which .env need not have any.
settings_of_services() {
    local name
    while IFS= read -r name; do
        if is_of_service "$name"; then say "$name"; fi
    done < <(compgen -e)
}

# is_right NAME: whether its value, if any, is possible; else sets problem to what it must be. Never shows the value,
# which may be a misplaced password.
is_right() {
    local name=$1 value=${!1-} index
    [[ -n $value ]] || return 0
    if [[ $name == LOG_LEVEL ]]; then
        problem='one of error, warn, info, debug and trace'
        [[ ${value,,} =~ ^(off|error|warn|info|debug|trace)$ ]]
        return
    fi
    for index in "${!range_of[@]}"; do
        # shellcheck disable=SC2053 # a pattern is wanted
        [[ $name == ${range_of[index]} ]] || continue
        problem="a whole number from ${range_min[index]} to ${range_max[index]}"
        is_number "$value" "${range_min[index]}" "${range_max[index]}"
        return
    done
}

# is_number TEXT MIN MAX
is_number() { [[ $1 =~ ^(0|[1-9][0-9]{0,15})$ ]] && (($1 >= $2 && $1 <= $3)); }

# warn_of_unknown_settings: warns of unknown names in .env.local, and of unknown variables with a prefix that only this
# platform uses. Other programs use RABBITMQ_, LOG_ and VM_, too, so of these only names one typing error away from a
# setting are reported. Names of password variables follow from BROKER_USERS, those of services from GATEWAY_SERVICES.
warn_of_unknown_settings() {
    local name near ours='^(GATEWAY|INVENTORY|BILLING|BROKER)_' shared='^(RABBITMQ|LOG|VM)_'
    while IFS= read -r name; do
        [[ ! -v default[$name] && $name != BROKER_PASSWORD_* ]] || continue
        ! is_of_service "$name" || continue
        [[ $name =~ $ours || $name =~ $shared || ${given[$name]-} == .env.local ]] || continue
        near=$(similar_setting "$name")
        if [[ -n $near || ! $name =~ $shared || ${given[$name]-} == .env.local ]]; then
            printf 'warning: there is no setting %s%s\n' "$name" "${near:+; is $near meant?}" >&2
        fi
    done < <(compgen -e | sort)
}

# similar_setting NAME: prints the setting whose name differs by one typing error: a wrong, missing or extra letter, or
# two swapped ones.
similar_setting() {
    local other
    for other in "${!default[@]}"; do
        if one_slip "$1" "$other"; then
            say "$other"
            return
        fi
    done
}

# one_slip A B: whether the rest without common prefix and suffix is one typing error.
one_slip() {
    local a=$1 b=$2
    while [[ -n $a && ${a:0:1} == "${b:0:1}" ]]; do a=${a:1} b=${b:1}; done
    while [[ -n $a && -n $b && ${a: -1} == "${b: -1}" ]]; do a=${a%?} b=${b%?}; done
    ((${#a} <= 1 && ${#b} <= 1)) || [[ ${#a} == 2 && ${#b} == 2 && $a == "${b:1:1}${b:0:1}" ]]
}
