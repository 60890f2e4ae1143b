# Sourced by the scripts that provision a virtual machine with PostgreSQL: the further services, with their databases.
#
# The Vagrantfile gives a machine the settings of its own services only, and a GATEWAY_SERVICES with only these.
# shellcheck shell=bash
# shellcheck disable=SC2154 # read_services sets service_names

# service_rules: adds to rules those of the firewall that let the gateway in, and sets service_private_ports. The
# Vagrantfile gives a private port even if .env shows it only as a default.
service_rules() {
    local name port
    service_private_ports=()
    read_services
    for name in "${service_names[@]}"; do
        rules+=("ip saddr $VM_GATEWAY tcp dport $(setting_of "$name" PORT) accept")
        port=$(setting_of "$name" PRIVATE_PORT)
        if [[ -n $port ]]; then service_private_ports+=("$port"); fi
    done
}

# run_services ADDRESS: makes their databases and runs them at this address.
run_services() {
    local name prefix pattern works
    for name in "${service_names[@]}"; do
        prefix=$(variable_of "$name")
        export "${prefix}_HOST=$1" "${prefix}_DB_HOST=127.0.0.1" "${prefix}_DB_PORT=5432"
        run_postgresql "$(setting_of "$name" DB_NAME)" "$(setting_of "$name" DB_USER)" "$(setting_of "$name" DB_PASSWORD)"
        pattern="${prefix}_|SERVICE_TOKEN\$|PRIVATE_HOST\$|LOG_LEVEL\$"
        works=(can_work_as "$name-app")
        # One that publishes events needs the broker, which may not be there yet.
        if [[ -n $(setting_of "$name" EXCHANGE) ]]; then
            export RABBITMQ_HOST=$VM_BILLING
            pattern+='|RABBITMQ_'
            works=(port_is_open "$1" "$(setting_of "$name" PORT)")
        fi
        run_service "$name-app" "$pattern"
        wait_until_serving "${name//-/_}_app" "${works[@]}"
        say "$name serves at http://$1:$(setting_of "$name" PORT), for gateway-vm"
    done
}

# can_work_as PROGRAM: whether the service can reach its database.
can_work_as() { (cd "$services/$1" && "/usr/local/bin/$1" --check) >/dev/null 2>&1; }
