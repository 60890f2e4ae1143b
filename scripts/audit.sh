#!/usr/bin/env bash
# Checks the running virtual machines against every question of the audit, and prints the answers.
#
#   scripts/audit.sh               the audit, what the console shows, and what the firewall lets through; about a minute
#   scripts/audit.sh --resilience  then also kills every service, cuts billing-vm's power, halts inventory-vm, rolls out
#                                  binaries while orders are placed, and provisions again
#
# Needs vagrant, ssh and curl on the host, and machines that vagrant up has started. It leaves a movie and some orders
# behind. Where the gateway has tokens, TOKEN in the environment must be one of the role admin. The exit status is 0 if
# every answer was yes.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/audit.sh
. "$here/lib/audit.sh"
# shellcheck source=lib/audit-parts.sh
. "$here/lib/audit-parts.sh"
# shellcheck source=lib/audit-resilience.sh
. "$here/lib/audit-resilience.sh"

resilience=no
case ${1-} in
    '') ;;
    --resilience) resilience=yes ;;
    -h | --help)
        show_help
        exit
        ;;
    *) fail "unknown option $1; see scripts/audit.sh --help" ;;
esac
(($# <= 1)) || fail "too many arguments; see scripts/audit.sh --help"

# Timeouts in seconds: for one event, and for all servers after a boot. A host without hardware virtualisation is slow.
limit=60 boot_limit=900

main() {
    local program
    for program in vagrant ssh curl; do
        command -v "$program" >/dev/null || fail "this needs $program"
    done
    load_settings
    read_services
    cd "$root"
    gateway_vm=$(address_of VM_GATEWAY)
    inventory_vm=$(address_of VM_INVENTORY)
    billing_vm=$(address_of VM_BILLING)
    gateway=http://$gateway_vm:$GATEWAY_PORT
    begin_audit
    machines
    credentials
    movies
    orders
    orders_while_billing_is_stopped
    console
    access
    firewall
    connections
    if [[ ${RABBITMQ_MANAGEMENT:-0} == 1 && ${BROKER:-rabbitmq} == rabbitmq ]]; then rabbitmq_page; fi
    if [[ ${BROKER:-rabbitmq} == embedded ]]; then our_management; fi
    if [[ $resilience == yes ]]; then
        kills
        power_cut
        inventory_vm_halted
        new_version
        second_provision
    fi
    end_audit
}

machines() {
    chapter "Virtual machines"
    local name
    ask "Are the three machines up and running?"
    see "vagrant status" vagrant status
    for name in gateway-vm inventory-vm billing-vm; do
        expect "$name +running .*"
    done
    for name in gateway-vm inventory-vm billing-vm; do
        ask "Does vagrant ssh $name work?"
        see "vagrant ssh $name -c hostname" vagrant ssh "$name" -c hostname
        expect "$name"
    done
    # vagrant up and vagrant reload return as soon as the machine can be reached. Do not call pm2 before systemd has
    # started it: the command would start a second pm2.
    ask "Have they started everything by themselves?"
    for name in gateway-vm inventory-vm billing-vm; do
        wait_calmly "$boot_limit" on "$name" systemctl is-active --quiet pm2-root || true
        see "systemctl is-active pm2-root, on $name" on "$name" systemctl is-active pm2-root
        expect active
    done
    wait_for "$boot_limit" ready || true
    request GET /ready
    expect_status 200
}

credentials() {
    chapter "Credentials"
    local name missing=()
    ask "Does .env hold all credentials that the services need?"
    for name in INVENTORY_DB_{NAME,USER,PASSWORD} BILLING_DB_{NAME,USER,PASSWORD} RABBITMQ_{USER,PASSWORD}; do
        grep -q "^$name=." .env || missing+=("$name")
    done
    saw "not in .env: ${missing[*]:-nothing}"
    verdict "$([[ ${#missing[@]} == 0 ]] && echo yes)"
    ask "Are the sources free from every credential of .env?"
    see "searching all files but .env for each password" search_for_credentials
    verdict "$([[ -z $seen ]] && echo yes)"
}

# Prints each file that holds a setting's value, and the setting.
search_for_credentials() {
    local name
    while IFS= read -r name; do
        grep -rlIF --exclude={.env,.env.local} --exclude-dir={.git,.vagrant,.data,target,dist,node_modules} -e "${!name}" . |
            sed "s/$/ holds $name/" || true
    done < <(sed -nE 's/^([A-Z_]*(PASSWORD|SECRET|TOKEN|KEY)[A-Z_]*)=..*/\1/p' .env)
}

movies() {
    chapter "Inventory"
    ask "Does POST /api/movies/ answer 201?"
    request POST /api/movies/ '{"title": "A new movie", "description": "Very short description"}'
    expect_status 201
    local id
    id=$(sed -n 's/.*"id": *\([0-9]*\).*/\1/p' <<<"$body")
    ask "Does GET /api/movies/ answer 200, with that movie in JSON?"
    request GET /api/movies/
    expect_status 200
    expect_body "\"id\": *$id, *\"title\": *\"A new movie\", *\"description\": *\"Very short description\""
    ask "Do all the other endpoints and methods answer as documented?"
    see "scripts/smoke.sh $gateway" smoke
    verdict "$([[ $seen == *passed* && $seen != *FAILED* ]] && echo yes)"
    ask "Does psql on inventory-vm list the database $INVENTORY_DB_NAME?"
    see "sudo -i -u postgres psql, \\l" psql_on inventory-vm <<<'\l'
    expect " *$INVENTORY_DB_NAME +\|.*"
    ask "Does TABLE movies show the movie?"
    see "\\c $INVENTORY_DB_NAME, TABLE movies; (its end)" last_rows inventory-vm "$INVENTORY_DB_NAME" movies
    expect " *$id \| A new movie *\| Very short description*"
}

smoke() { "$root/scripts/smoke.sh" "$gateway" 2>&1 | grep -E 'FAILED|passed|failed' || true; }

orders() {
    chapter "Billing"
    local before
    before=$(orders_of 20)
    ask "Does POST /api/billing/ answer 200 to the order of user 20?"
    request POST /api/billing/ '{"user_id": "20", "number_of_items": "99", "total_amount": "250"}'
    expect_status 200
    ask "Does psql on billing-vm list the database $BILLING_DB_NAME?"
    see "sudo -i -u postgres psql, \\l" psql_on billing-vm <<<'\l'
    expect " *$BILLING_DB_NAME +\|.*"
    ask "Does TABLE orders show the order of user 20?"
    wait_calmly "$limit" has_orders 20 $((before + 1)) || true
    see "\\c $BILLING_DB_NAME, TABLE orders; (its end)" last_rows billing-vm "$BILLING_DB_NAME" orders
    expect " *[0-9]+ \| 20 *\| *99 \| *250.00"
    saw "orders of user 20: $before before, $(orders_of 20) now"
    verdict "$(has_orders 20 $((before + 1)) && echo yes)"
}

orders_while_billing_is_stopped() {
    chapter "Resilience of the queue"
    local before
    before=$(orders_of 22)
    ask "Does sudo pm2 stop billing_app stop it?"
    on billing-vm sudo pm2 stop billing_app >/dev/null || true
    see "sudo pm2 list" on billing-vm sudo pm2 list
    expect ".*billing_app.*stopped.*"
    ask "Does POST /api/billing/ still answer 200, to the order of user 22?"
    request POST /api/billing/ '{"user_id": "22", "number_of_items": "10", "total_amount": "50"}'
    expect_status 200
    ask "Is the order of user 22 not listed?"
    saw "orders of user 22: $before before, $(orders_of 22) now"
    verdict "$(has_orders 22 "$before" && echo yes)"
    ask "After sudo pm2 start billing_app, is the order of user 22 listed?"
    on billing-vm sudo pm2 start billing_app >/dev/null || true
    wait_calmly "$limit" has_orders 22 $((before + 1)) || true
    see "\\c $BILLING_DB_NAME, TABLE orders; (its end)" last_rows billing-vm "$BILLING_DB_NAME" orders
    expect " *[0-9]+ \| 22 *\| *10 \| *50.00"
    saw "orders of user 22: $(orders_of 22) now"
    verdict "$(has_orders 22 $((before + 1)) && echo yes)"
}

main
