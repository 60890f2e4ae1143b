# Sourced by audit.sh: what the console shows, who may do what, and what the firewall lets through.
# shellcheck shell=bash
# shellcheck disable=SC2154 # audit.sh and lib/audit.sh set the variables

console() {
    chapter "What the console shows"
    local part
    ask "Does every part say that it works?"
    wait_for "$limit" status_has '"billing":\{[^}]*"state":"ok"' || true
    request GET /api/status
    expect_status 200
    for part in gateway inventory postgresql broker billing billing_db outbox; do
        expect_body "\"$part\":\{[^}]*\"state\":\"ok\""
    done
    for part in "${service_names[@]}"; do expect_body "\"services\":\{.*\"$part\":\{[^}]*\"state\":\"ok\""; done
    ask "Is the number of stored orders that of the table?"
    request GET /api/status
    saw "rows in the table orders: $(all_orders)"
    expect_body "\"orders_stored\":$(all_orders),"
    ask "Can stored orders, dead letters and the services be listed?"
    request GET '/api/orders?limit=1'
    expect_status 200
    expect_body '"message_id":'
    request GET '/api/dead-letters?limit=1'
    expect_status 200
    request GET /api/services
    expect_status 200
    expect_body '"name":"billing"'
}

all_orders() { psql_on billing-vm -At -d "$BILLING_DB_NAME" <<<"SELECT count(*) FROM orders"; }

access() {
    chapter "Who may do what"
    local machine
    ask "Does the gateway limit what one client may ask?"
    request GET /health
    expect_header ratelimit
    if [[ ${VM_TOKENS:-0} == 1 ]]; then
        ask "Are changes refused without a token?"
        see "POST /api/movies without a token" curl -s -m 60 -o "$answers/body" -w '%{http_code}\n' -H "$json" \
            -d '{"title": "nobody"}' "$gateway/api/movies"
        expect 401
    fi
    ask "Can only root and the service read its settings, and only it the gateway's outbox?"
    for machine in gateway-vm inventory-vm billing-vm; do
        see "stat, on $machine" on "$machine" "sudo sh -c 'stat -c \"%a %G %n\" /opt/crud-master/*/.env'"
        verdict "$([[ -n $seen ]] && ! grep -qv '^640 crud-master /opt/' <<<"$seen" && echo yes)"
    done
    see "stat, on gateway-vm" on gateway-vm "sudo stat -c '%a %U' /var/lib/crud-master/outbox"
    expect "700 crud-master"
    ask "Is the host's .env out of the services' sight?"
    for machine in gateway-vm inventory-vm billing-vm; do
        see "cat /vagrant/.env as crud-master, on $machine" on "$machine" \
            "sudo -u crud-master cat /vagrant/.env >/dev/null 2>&1 && echo readable || echo hidden"
        expect hidden
    done
}

firewall() {
    chapter "Firewall"
    local place name port machine monitored=${VM_MONITORING:+open}
    ask "Does everybody reach the gateway?"
    for place in host inventory-vm billing-vm; do knock "$place" "$gateway_vm" "$GATEWAY_PORT" open; done
    ask "Does gateway-vm reach inventory and the broker?"
    knock gateway-vm "$inventory_vm" "$INVENTORY_PORT" open
    knock gateway-vm "$billing_vm" "$RABBITMQ_PORT" open
    ask "Does nobody else?"
    for place in host billing-vm; do
        knock "$place" "$inventory_vm" "$INVENTORY_PORT" closed
    done
    for place in host inventory-vm; do
        knock "$place" "$billing_vm" "$RABBITMQ_PORT" "$(may_publish "$place")"
    done
    for name in "${service_names[@]}"; do
        ask "Does gateway-vm reach the service $name, and nobody else?"
        machine=$(setting_of "$name" VM) port=$(setting_of "$name" PORT)
        machine=${machine:-inventory-vm}
        knock gateway-vm "$(address_named "$machine")" "$port" open
        knock host "$(address_named "$machine")" "$port" closed
        knock "$(other_than "$machine")" "$(address_named "$machine")" "$port" closed
    done
    ask "Is PostgreSQL closed to everybody, and RabbitMQ's inner doors with it?"
    for place in host gateway-vm; do
        knock "$place" "$inventory_vm" 5432 closed
        knock "$place" "$billing_vm" 5432 closed
        knock "$place" "$billing_vm" 4369 closed
        knock "$place" "$billing_vm" 25672 closed
    done
    ask "Do the private listeners answer on their own machines?"
    while read -r machine port; do knock "$machine" 127.0.0.1 "$port" open; done < <(private_listeners)
    ask "Are they, and with them our broker's management API, ${monitored:+open to VM_MONITORING and }closed to everybody else?"
    while read -r machine port; do
        [[ -n $monitored ]] || knock host "$(address_named "$machine")" "$port" closed
        knock "$(other_than "$machine")" "$(address_named "$machine")" "$port" closed
    done < <(private_listeners)
    ask "Is RabbitMQ's management page as RABBITMQ_MANAGEMENT says?"
    if [[ ${RABBITMQ_MANAGEMENT:-0} == 1 && ${BROKER:-rabbitmq} == rabbitmq ]]; then
        knock host "$billing_vm" 15672 open
    else
        knock host "$billing_vm" 15672 closed
    fi
}

# private_listeners: the machine and the port of each.
private_listeners() {
    printf '%s\n' "gateway-vm ${GATEWAY_PRIVATE_PORT:-9301}" "inventory-vm ${INVENTORY_PRIVATE_PORT:-9302}" \
        "billing-vm ${BILLING_PRIVATE_PORT:-9303}"
    if [[ ${BROKER:-rabbitmq} == embedded ]]; then echo "billing-vm ${BROKER_PRIVATE_PORT:-9304}"; fi
}

# may_publish PLACE: open if a service there publishes events.
may_publish() {
    local name machine
    for name in "${service_names[@]}"; do
        machine=$(setting_of "$name" VM)
        if [[ -n $(setting_of "$name" EXCHANGE) && ${machine:-inventory-vm} == "$1" ]]; then echo open && return; fi
    done
    echo closed
}

# address_named MACHINE
address_named() {
    case $1 in
        gateway-vm) echo "$gateway_vm" ;;
        inventory-vm) echo "$inventory_vm" ;;
        billing-vm) echo "$billing_vm" ;;
    esac
}

# other_than MACHINE: another one, which is not the gateway's.
other_than() { if [[ $1 == inventory-vm ]]; then echo billing-vm; else echo inventory-vm; fi; }

connections() {
    chapter "Many short connections"
    local count=5600 answered
    ask "Are $count short requests of one client all answered?"
    # Beyond the client's rate the answer is 429, which is an answer.
    see "$count times GET /health, 8 at a time, each on a connection of its own: how many had which status" \
        short_requests "$count"
    answered=$(awk '$2 == 200 || $2 == 429 {sum += $1} END {print sum + 0}' <<<"$seen")
    verdict "$([[ $answered == "$count" ]] && echo yes)" "only $answered were answered"
    ask "Does the kernel of gateway-vm keep none of them in its table of connections?"
    see "nft list ruleset, on gateway-vm" on gateway-vm "sudo nft list ruleset | grep notrack"
    expect "[[:space:]]*tcp dport $GATEWAY_PORT notrack"
    expect "[[:space:]]*tcp sport $GATEWAY_PORT notrack"
    see "connections in the table, and most of them" on gateway-vm \
        "cd /proc/sys/net/netfilter && cat nf_conntrack_count nf_conntrack_max"
    verdict "$([[ $(head -n 1 <<<"$seen") -lt 1000 ]] && echo yes)" "the table is filling up"
}

# short_requests COUNT: with eight clients at a time.
short_requests() {
    local client
    for client in {1..8}; do
        curl -sS -m 30 -H 'Connection: close' -o "$answers/short$client" -w '%{http_code}\n' \
            "$gateway/health?[1-$(($1 / 8))]" 2>"$answers/error" &
    done | sort | uniq -c
    wait
}

rabbitmq_page() {
    chapter "RabbitMQ's management page"
    local before
    before=$(orders_of 25)
    ask "Does an order that is published there reach the table?"
    printf 'user = "%s:%s"\n' "$RABBITMQ_USER" "$RABBITMQ_PASSWORD" >"$answers/rabbitmq"
    see "publishing to $BILLING_QUEUE by the page's API" publish_by_page
    expect '.*"routed": *true.*'
    wait_calmly "$limit" has_orders 25 $((before + 1)) || true
    saw "orders of user 25: $before before, $(orders_of 25) now"
    verdict "$(has_orders 25 $((before + 1)) && echo yes)"
}

publish_by_page() {
    local order='{\"user_id\": \"25\", \"number_of_items\": \"3\", \"total_amount\": \"30\"}' vhost
    vhost=${RABBITMQ_VHOST//\//%2F}
    curl -sS -m 60 -K "$answers/rabbitmq" -H "$json" "http://$billing_vm:15672/api/exchanges/$vhost/amq.default/publish" \
        -d "{\"properties\": {}, \"routing_key\": \"$BILLING_QUEUE\", \"payload\": \"$order\", \"payload_encoding\": \"string\"}"
}
