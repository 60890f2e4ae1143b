# Sourced by project.sh: the services beside the platform's own, as the settings name them.
#
# A service is ours to run if GATEWAY_SERVICES names it and its settings name its database. For the name my-todo, its
# settings begin with MY_TODO_, its program is my-todo-app, and run.sh and pm2 call it my_todo_app.
# shellcheck shell=bash

# Their names, in the order of GATEWAY_SERVICES.
declare -ga service_names=()
# The path of each at the gateway.
declare -gA service_path=()

# read_services: sets service_names and service_path; call it after load_settings.
read_services() {
    local entry name
    service_names=() service_path=()
    while IFS= read -r entry; do
        [[ $entry =~ ^[a-z][a-z0-9_-]*=/.+ ]] ||
            fail "GATEWAY_SERVICES: every member must be NAME=/PREFIX, such as todo=/todo"
        name=${entry%%=*}
        if [[ -n $(setting_of "$name" DB_NAME) ]]; then
            service_names+=("$name")
            # shellcheck disable=SC2034 # the scripts that source this file use it
            service_path[$name]=${entry#*=}
        fi
    done < <(gateway_entries)
}

# gateway_entries: prints the members NAME=/PREFIX of GATEWAY_SERVICES, those of services elsewhere as well, one in a line.
gateway_entries() {
    local entry entries=()
    IFS=, read -r -a entries <<<"${GATEWAY_SERVICES-}"
    for entry in "${entries[@]}"; do
        # The blanks that the gateway ignores, too.
        entry=${entry//[[:space:]]/}
        [[ -z $entry ]] || printf '%s\n' "$entry"
    done
}

# gateway_services: prints the names of all services that GATEWAY_SERVICES has, one in a line.
gateway_services() { gateway_entries | sed 's/=.*//'; }

# variable_of NAME: what its settings begin with, without the last underscore.
variable_of() {
    local upper=${1^^}
    printf %s "${upper//-/_}"
}

# setting_of NAME SETTING: the value of a service's setting, such as PORT or DB_USER; empty if it is not set.
setting_of() {
    local name
    name=$(variable_of "$1")_$2
    printf %s "${!name-}"
}

# private_port_of NAME: that of a service's private listener, from its setting, or the default that .env shows in a
# comment; empty if there is neither. Only where .env is: the virtual machines get both as a setting.
private_port_of() {
    local name
    local -A default=()
    name=$(variable_of "$1")_PRIVATE_PORT
    read_defaults
    printf %s "${!name:-${default[$name]-}}"
}

# is_of_service VARIABLE: whether a variable belongs to one of the services. The service itself knows whether it is a
# setting.
is_of_service() {
    local name prefix
    for name in "${service_names[@]}"; do
        prefix=$(variable_of "$name")
        [[ $1 != "${prefix}_"* && $1 != "GATEWAY_${prefix}_BODY_MAX_BYTES" ]] || return 0
    done
    return 1
}
