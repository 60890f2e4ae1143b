#!/usr/bin/env bash
# Tests the audit without virtual machines: its questions about the console with the answer that docs/openapi.yaml
# shows, those about the firewall with the rules that scripts/provision would set, and others with made-up output.
# shellcheck disable=SC2317 # functions that the audit calls in place of its own
set -uo pipefail

# shellcheck source=testing.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/testing.sh"
# shellcheck source=../lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=../lib/audit.sh
. "$here/lib/audit.sh"
# shellcheck source=../lib/audit-parts.sh
. "$here/lib/audit-parts.sh"
# shellcheck source=../lib/audit-resilience.sh
. "$here/lib/audit-resilience.sh"

# The audit has another expect.
is_like() {
    # shellcheck disable=SC2053 # a pattern is wanted
    [[ $1 == $2 ]] || { printf 'expected: %s\nseen:     %s\n' "$2" "$1" && exit 1; }
}

# What the functions of the audit use.
# shellcheck disable=SC2034
limit=1 boot_limit=1 gateway=http://192.168.56.10:3000 answers=$work
gateway_vm=192.168.56.10 inventory_vm=192.168.56.11 billing_vm=192.168.56.12
export VM_GATEWAY=$gateway_vm VM_INVENTORY=$inventory_vm VM_BILLING=$billing_vm
# Empty, not unset: what the files say of this checkout must not count here.
for name in VM_MONITORING VM_TOKENS BROKER RABBITMQ_MANAGEMENT GATEWAY_SERVICES; do export "$name="; done

# answered COUNT COMMAND…: fails unless this many questions of the audit were answered with no. Sets seen.
answered() {
    local count=$1
    shift
    questions=0 refused=0 pending=''
    "$@" >"$work/audit"
    conclude >>"$work/audit"
    seen=$(<"$work/audit")
    ((refused == count)) || { printf '%s answered with no instead of %s:\n%s\n' "$refused" "$count" "$seen" && exit 1; }
}

# with_services: two, one of which publishes events, on different machines.
with_services() {
    export GATEWAY_SERVICES=pizzas=/api/pizzas,my-ovens=/api/my-ovens
    export PIZZAS_PORT=8090 PIZZAS_DB_NAME=pizzas_db PIZZAS_PRIVATE_PORT=9305 PIZZAS_EXCHANGE=pizzas
    export MY_OVENS_PORT=8091 MY_OVENS_DB_NAME=ovens_db MY_OVENS_PRIVATE_PORT=9306 MY_OVENS_VM=billing-vm
}

# --- what the console shows

# show_status STATE: the example of /api/status as JSON, with a service in this state.
show_status() {
    sed -n '/operationId: getStatus/,/operationId: getHistory/s/^ *example: \({gateway: .*\)/\1/p' "$here/../docs/openapi.yaml" |
        sed -E -e "s/services: \{/&pizzas: {state: $1, since_s: 1}, my-ovens: {since_s: 1, state: ok}/" \
            -e 's/([a-z_-]+): /"\1":/g' -e "s/:script/:\"${DEPLOYMENT:-vagrant}\"/" -e 's/:(ok|unreachable)/:"\1"/g' -e 's/:([0-9]+\.[0-9.]+)/:"\1"/g' -e 's/, "/,"/g'
}

test_the_console_of_a_healthy_platform_is_all_right() {
    answer_requests
    with_services
    read_services
    answered 0 console
    STATE=unreachable
    answered 1 console
    is_like "$seen" '*NO: the body is not like: "services"*pizzas*'
}

test_a_gateway_that_shows_commands_of_the_script_is_noticed() {
    answer_requests
    DEPLOYMENT=script
    answered 1 console
    is_like "$seen" '*NO: the body is not like: "deployment":"vagrant"*'
}

test_a_missing_description_of_a_service_is_noticed() {
    answer_requests
    with_services
    read_services
    service_path[pizzas]=/api/other
    answered 1 console
    is_like "$seen" '*NO: the body is not like: *"/api/other*'
}

# answer_requests: the audit's requests are answered as by a gateway.
answer_requests() {
    STATE=ok
    status_has() { true; }
    all_orders() { echo 12; }
    request() {
        status=200 body='{}'
        case "$2" in
            /api/status) body=$(show_status "$STATE") ;;
            '/api/orders?'*) body='[{"id":3,"message_id":"abc~1","user_id":"22"}]' ;;
            /api/services) body='{"services":[{"name":"billing","state":"ok"}]}' ;;
            /api/status/orders/abc~1) body='{"message_id":"abc~1","state":"stored"}' ;;
            '/api/status/history?minutes=60') body='{"begun_s":1,"step_s":5}' ;;
            '/api/status/history?minutes=1440') body='{"begun_s":1,"step_s":60,"x":1}' ;;
            /openapi.json) body='{"paths":{"/api/movies":{},"/api/billing":{},"/api/pizzas":{},"/api/my-ovens/{id}":{}}}' ;;
            '/api/dead-letters?'*) ;;
            *) status=404 ;;
        esac
    }
}

# --- the firewall

# rules_of MACHINE: into rules.MACHINE, what its script in scripts/provision tells nftables, one rule in a line.
rules_of() {
    local copy=$work/provision-copy
    if [[ ! -d $copy ]]; then
        mkdir -p -- "$copy"
        cp -r -- "$here" "$copy/scripts"
        cat >"$copy/scripts/provision/machine.sh" <<'END'
. "${BASH_SOURCE[0]%/*}/../lib/project.sh"
. "${BASH_SOURCE[0]%/*}/firewall.sh"
for name in begin_step end_steps prepare_machine run_service remove_service wait_until_serving make_tokens install; do
    eval "$name() { :; }"
done
open_firewall() {
    [[ -z $public_port ]] || set -- "tcp dport $public_port accept" "$@"
    printf '%s\n' "$@"
    exit
}
END
    fi
    services=/nowhere service_user=root bash "$copy/scripts/provision/$1.sh" >"$work/rules.$1"
}

# set_rules: those of all machines. As the Vagrantfile does, gives each only the services that are there.
set_rules() {
    load_settings
    read_services
    VM_PUBLISHERS=''
    [[ -z ${PIZZAS_EXCHANGE-} ]] || VM_PUBLISHERS=$inventory_vm
    export VM_PUBLISHERS
    rules_of gateway-vm
    GATEWAY_SERVICES=${PIZZAS_PORT:+pizzas=/api/pizzas} rules_of inventory-vm
    GATEWAY_SERVICES=${MY_OVENS_PORT:+my-ovens=/api/my-ovens} rules_of billing-vm
}

# knock_by_rules PLACE ADDRESS PORT WANTED: stands for knock.
knock_by_rules() {
    local place=$1 address=$2 port=$3 wanted=$4 found=closed from machine rule
    from=$(address_named "$place")
    for machine in gateway-vm inventory-vm billing-vm; do
        if [[ $(address_named "$machine") == "$address" ]]; then break; fi
    done
    if [[ $address == 127.0.0.1 ]]; then found=open; fi
    while IFS= read -r rule; do
        rule=${rule//[\{\} ]/,}
        if [[ $rule == *,dport*,$port,* && ($rule != *saddr* || $rule == *saddr*,$from,*) ]]; then found=open; fi
    done <"$work/rules.$machine"
    printf 'from %s to %s:%s: %s\n' "$place" "$address" "$port" "$found"
    if [[ $found != "$wanted" ]]; then
        printf 'WRONG\n'
        verdict no "$address:$port is $found for $place"
    fi
}

firewall_by_rules() {
    knock() { knock_by_rules "$@"; }
    firewall
}

test_the_firewall_is_as_the_audit_wants_it() {
    set_rules
    answered 0 firewall_by_rules
    with_services
    set_rules
    answered 0 firewall_by_rules
    is_like "$seen" '*from billing-vm to 192.168.56.11:9305: closed*'
    export VM_MONITORING=192.168.56.1 BROKER=embedded
    set_rules
    answered 0 firewall_by_rules
    is_like "$seen" '*from host to 192.168.56.12:9304: open*from host to 192.168.56.11:9305: open*'
    export VM_MONITORING=10.0.0.7,192.168.56.11 BROKER=rabbitmq RABBITMQ_MANAGEMENT=1
    unset PIZZAS_EXCHANGE
    set_rules
    answered 0 firewall_by_rules
    is_like "$seen" '*from inventory-vm to 192.168.56.10:9301: open*from gateway-vm to 192.168.56.12:15672: open*'
}

# Each is opened for one place after the other.
test_every_door_too_many_is_noticed() {
    local machine port from
    with_services
    export BROKER=embedded
    for from in 192.168.56.1 "$gateway_vm" "$inventory_vm" "$billing_vm"; do
        set_rules
        opened=0
        for machine in gateway-vm:9301 inventory-vm:5432 inventory-vm:9302 inventory-vm:9305 billing-vm:4369 billing-vm:5432 \
            billing-vm:9303 billing-vm:9304 billing-vm:9306 billing-vm:15672 billing-vm:25672; do
            port=${machine#*:} machine=${machine%:*}
            [[ $from != "$(address_named "$machine")" ]] || continue
            printf 'ip saddr %s tcp dport %s accept\n' "$from" "$port" >>"$work/rules.$machine"
            opened=$((opened + 1))
        done
        # Those questions that are about these doors.
        answered "$([[ $from == "$billing_vm" ]] && echo 2 || echo 3)" firewall_by_rules
        is_like "$(grep -c WRONG <<<"$seen")" "$opened"
    done
}

test_every_missing_door_is_noticed() {
    local machine
    with_services
    set_rules
    for machine in gateway-vm inventory-vm billing-vm; do : >"$work/rules.$machine"; done
    # The gateway, inventory, the broker and two services.
    answered 5 firewall_by_rules
    # From three places, one, two and one each.
    is_like "$(grep -c WRONG <<<"$seen")" 8
    export VM_MONITORING=192.168.56.1 BROKER=embedded
    answered 6 firewall_by_rules
    is_like "$(grep -c WRONG <<<"$seen")" 14
}

# --- what else is asked

test_too_many_requests_of_one_client_must_be_told_so() {
    on() { case $2 in *nft*) printf 'tcp dport 3000 notrack\ntcp sport 3000 notrack\n' ;; *) printf '7\n4096\n' ;; esac }
    GATEWAY_PORT=3000
    short_requests() { printf '%7s 200\n%7s 429\n' 4000 1600; }
    answered 0 connections
    short_requests() { echo '   5600 200'; }
    answered 1 connections
    GATEWAY_RATE_PER_S=0 answered 0 connections
    GATEWAY_RATE_PER_S=6000 answered 0 connections
}

test_a_second_provision_may_change_nothing() {
    local line
    vagrant() { printf '    %s\n' "${said[@]}"; }
    said=("gateway-vm: == api-gateway" "gateway-vm: gateway-vm is provisioned, in 7 s: base system 1 s"
        "inventory-vm: inventory-vm is provisioned, in 9 s: base system 1 s"
        "billing-vm: billing-vm is provisioned, in 9 s: RabbitMQ 2 s")
    answered 0 second_provision
    for line in "gateway-vm: Restarted api_gateway." "billing-vm: Wrote /etc/nftables.conf." "billing-vm: Starting broker." \
        "gateway-vm: The token of admin; it is shown only now:" "inventory-vm: Installed inventory-app."; do
        said+=("$line")
        answered 1 second_provision
        unset 'said[-1]'
    done
    unset 'said[-1]'
    answered 1 second_provision
}

test_every_binary_is_rolled_out() {
    with_services
    read_services
    is_like "$(programs | tr '\n' ,)" \
        'gateway-vm api-gateway,inventory-vm inventory-app,billing-vm billing-app,inventory-vm pizzas-app,billing-vm my-ovens-app,'
    is_like "$(BROKER=embedded programs)" '*billing-vm broker*'
}

test_every_service_is_killed_once() {
    with_services
    read_services
    export BROKER=embedded
    : >"$work/killed"
    # The names stand for the processes.
    on() { printf '%s\n' "$5" >>"$work/killed"; }
    service_pid() { if grep -qx "$2" "$work/killed"; then echo "$2-again"; else echo "$2"; fi }
    ready() { true; }
    request() { status=200; }
    answered 0 kills
    is_like "$(tr '\n' , <"$work/killed")" 'api_gateway,inventory_app,billing_app,broker,pizzas_app,my_ovens_app,'
    : >"$work/killed"
    on() { true; }
    answered 6 kills
}

test_a_login_is_written_as_curl_reads_it() {
    RABBITMQ_USER=platform RABBITMQ_PASSWORD='a"b\c d'
    # shellcheck disable=SC1003
    is_like "$(broker_login)" 'user = "platform:a\\"b\\\\c d"'
}

run_tests
