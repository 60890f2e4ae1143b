# Sourced by project.sh: the services beside the platform's own, as the settings name them.
#
# A service is ours to run if GATEWAY_SERVICES names it and its settings name its database. For the name my-todo, its
# settings begin with MY_TODO_, its program is my-todo-app, and run.sh and pm2 call it my_todo_app.
# shellcheck shell=bash

# Their names, in the order of GATEWAY_SERVICES.
declare -ga services=()
# The path of each at the gateway.
declare -gA service_path=()

# read_services: sets services and service_path; call it after load_settings.
read_services() {
    local entry name database entries=()
    services=() service_path=()
    IFS=, read -r -a entries <<<"${GATEWAY_SERVICES-}"
    for entry in "${entries[@]}"; do
        # The blanks that the gateway ignores, too.
        entry=${entry//[[:space:]]/}
        [[ -n $entry ]] || continue
        [[ $entry =~ ^[a-z][a-z0-9_-]*=/.+ ]] ||
            fail "GATEWAY_SERVICES: every member must be NAME=/PREFIX, such as todo=/todo"
        name=${entry%%=*}
        database=$(variable_of "$name")_DB_NAME
        if [[ -n ${!database-} ]]; then
            services+=("$name")
            # shellcheck disable=SC2034 # the scripts that source this file use it
            service_path[$name]=${entry#*=}
        fi
    done
}

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

# is_of_service VARIABLE: whether a variable belongs to one of the services. The service itself knows whether it is a
# setting.
is_of_service() {
    local name prefix
    for name in "${services[@]}"; do
        prefix=$(variable_of "$name")
        [[ $1 != "${prefix}_"* && $1 != "GATEWAY_${prefix}_BODY_MAX_BYTES" ]] || return 0
    done
    return 1
}
