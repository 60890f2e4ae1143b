# Sourced by audit.sh: what the console shows, who may do what, and what the firewall lets through.
# shellcheck shell=bash
# shellcheck disable=SC2154 # audit.sh and lib/audit.sh set the variables

console() {
    chapter "What the console shows"
    local part newest
    ask "Does every part say that it works?"
    wait_for "$limit" status_has "$(is_ok billing)" || true
    request GET /api/status
    expect_status 200
    for part in gateway inventory postgresql broker billing billing_db outbox; do expect_body "$(is_ok "$part")"; done
    for part in "${service_names[@]}"; do expect_body "\"services\":\{.*$(is_ok "$part")"; done
    ask "Are the commands that it shows where a part is down those of these machines?"
    expect_body '"deployment":"vagrant"'
    ask "Is the number of stored orders that of the table?"
    request GET /api/status
    saw "rows in the table orders: $(all_orders)"
    expect_body "\"orders_stored\":$(all_orders),"
    ask "Can stored orders, dead letters and the services be listed?"
    request GET '/api/orders?limit=1&order=newest'
    expect_status 200
    expect_body '"message_id":'
    newest=$(sed -n 's/.*"message_id": *"\([^"]*\)".*/\1/p' <<<"$body")
    request GET '/api/dead-letters?limit=1'
    expect_status 200
    request GET /api/services
    expect_status 200
    expect_body '"name":"billing"'
    ask "Is it known what has become of the newest order?"
    request GET "/api/status/orders/$newest"
    expect_status 200
    expect_body '"state":"stored"'
    ask "Are there figures for the charts of an hour and of a day?"
    request GET '/api/status/history?minutes=60'
    expect_status 200
    expect_body '"step_s":5[,}]'
    request GET '/api/status/history?minutes=1440'
    expect_status 200
    expect_body '"step_s":60[,}]'
    ask "Does one OpenAPI document describe movies, orders and every further service?"
    request GET /openapi.json
    expect_status 200
    for part in /api/movies /api/billing "${service_path[@]}"; do expect_body "\"$part(/[^\"]*)?\": *\{"; done
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
    local name port machine monitors=()
    read -r -a monitors <<<"$(monitors)"
    ask "Does everybody reach the gateway?"
    door gateway-vm "$GATEWAY_PORT" "${places[@]}"
    ask "Does gateway-vm reach inventory, and nobody else?"
    door inventory-vm "$INVENTORY_PORT" gateway-vm
    ask "Do gateway-vm and the machines of services that publish events reach the broker, and nobody else?"
    # shellcheck disable=SC2046 # one word or none
    door billing-vm "$RABBITMQ_PORT" gateway-vm $(publishers)
    for name in "${service_names[@]}"; do
        ask "Does gateway-vm reach the service $name, and nobody else?"
        machine=$(setting_of "$name" VM) port=$(setting_of "$name" PORT)
        door "${machine:-inventory-vm}" "$port" gateway-vm
    done
    ask "Is PostgreSQL closed to everybody, and RabbitMQ's inner doors with it?"
    door inventory-vm 5432
    door billing-vm 5432
    door billing-vm 4369
    door billing-vm 25672
    ask "Do the private listeners answer on their own machines?"
    while read -r machine port; do knock "$machine" 127.0.0.1 "$port" open; done < <(private_listeners)
    ask "Are they, and with them our broker's management API, ${VM_MONITORING:+open to VM_MONITORING and }closed to everybody else?"
    while read -r machine port; do door "$machine" "$port" "${monitors[@]}"; done < <(private_listeners)
    ask "Is RabbitMQ's management page as RABBITMQ_MANAGEMENT says?"
    if [[ ${RABBITMQ_MANAGEMENT:-0} == 1 && ${BROKER:-rabbitmq} == rabbitmq ]]; then
        door billing-vm 15672 "${places[@]}"
    else
        door billing-vm 15672
    fi
}

# From where every port is tried.
places=(host gateway-vm inventory-vm billing-vm)

# door MACHINE PORT [PLACE]…: these places, all others but the machine itself excepted, reach its port.
door() {
    local machine=$1 port=$2 place wanted
    shift 2
    for place in "${places[@]}"; do
        [[ $place != "$machine" ]] || continue
        if [[ " $* " == *" $place "* ]]; then wanted=open; else wanted=closed; fi
        knock "$place" "$(address_named "$machine")" "$port" "$wanted"
    done
}

# monitors: those places whose address is in VM_MONITORING.
monitors() {
    local place listed=${VM_MONITORING-}
    for place in "${places[@]}"; do
        if [[ ,${listed//[[:space:]]/}, == *",$(address_named "$place"),"* ]]; then printf '%s ' "$place"; fi
    done
}

# private_listeners: the machine and the port of each.
private_listeners() {
    local name machine port
    printf '%s\n' "gateway-vm ${GATEWAY_PRIVATE_PORT:-9301}" "inventory-vm ${INVENTORY_PRIVATE_PORT:-9302}" \
        "billing-vm ${BILLING_PRIVATE_PORT:-9303}"
    if [[ ${BROKER:-rabbitmq} == embedded ]]; then echo "billing-vm ${BROKER_PRIVATE_PORT:-9304}"; fi
    for name in "${service_names[@]}"; do
        machine=$(setting_of "$name" VM) port=$(private_port_of "$name")
        [[ -z $port ]] || printf '%s\n' "${machine:-inventory-vm} $port"
    done
}

# publishers: inventory-vm if a service there publishes events. Those on billing-vm need no door.
publishers() {
    local name machine
    for name in "${service_names[@]}"; do
        machine=$(setting_of "$name" VM)
        if [[ -n $(setting_of "$name" EXCHANGE) && ${machine:-inventory-vm} == inventory-vm ]]; then
            echo inventory-vm
            return
        fi
    done
}

# address_named PLACE: its address in the network of the machines, in which the host has the first one.
address_named() {
    case $1 in
        host) echo "${gateway_vm%.*}.1" ;;
        gateway-vm) echo "$gateway_vm" ;;
        inventory-vm) echo "$inventory_vm" ;;
        billing-vm) echo "$billing_vm" ;;
    esac
}

connections() {
    chapter "Many short connections"
    local count=5600 answered began=$SECONDS
    ask "Are $count short requests of one client all answered?"
    # Beyond the client's rate the answer is 429, which is an answer.
    see "$count times GET /health, 8 at a time, each on a connection of its own: how many had which status" \
        short_requests "$count"
    answered=$(awk '$2 == 200 || $2 == 429 {sum += $1} END {print sum + 0}' <<<"$seen")
    verdict "$([[ $answered == "$count" ]] && echo yes)" "only $answered were answered"
    if ((count > $(most_in $((SECONDS - began + 1))))); then
        ask "Were there too many of them for one client, and some answered 429?"
        expect ' *[0-9]+ 429'
    fi
    ask "Does the kernel of gateway-vm keep none of them in its table of connections?"
    see "nft list ruleset, on gateway-vm" on gateway-vm "sudo nft list ruleset | grep notrack"
    expect "[[:space:]]*tcp dport $GATEWAY_PORT notrack"
    expect "[[:space:]]*tcp sport $GATEWAY_PORT notrack"
    see "connections in the table, and most of them" on gateway-vm \
        "cd /proc/sys/net/netfilter && cat nf_conntrack_count nf_conntrack_max"
    verdict "$([[ $(head -n 1 <<<"$seen") -lt 1000 ]] && echo yes)" "the table is filling up"
}

# most_in SECONDS: how many requests of one client are allowed in that time. Where that is more than a slow machine
# answers, or there is no limit, 429 is not to be expected.
most_in() {
    local rate=${GATEWAY_RATE_PER_S:-200}
    if ((rate == 0)); then echo 1000000; else echo $((rate * $1 + ${GATEWAY_RATE_BURST:-$((2 * rate))})); fi
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
    broker_login >"$answers/rabbitmq"
    see "publishing to $BILLING_QUEUE by the page's API" publish_by_page
    expect '.*"routed": *true.*'
    wait_calmly "$limit" has_orders 25 $((before + 1)) || true
    saw "orders of user 25: $before before, $(orders_of 25) now"
    verdict "$(has_orders 25 $((before + 1)) && echo yes)"
}

# our_management: the management API of our own broker, which answers on its machine alone.
our_management() {
    local url=http://127.0.0.1:${BROKER_PRIVATE_PORT:-9304}/api/overview
    chapter "Our broker's management API"
    ask "Does it answer the platform's user?"
    broker_login >"$answers/rabbitmq"
    see "curl $url with RABBITMQ_USER and its password, on billing-vm" overview_as "$answers/rabbitmq" "$url"
    expect 200
    ask "Does it refuse who has no password?"
    see "curl $url without a login, on billing-vm" overview_as /dev/null "$url"
    expect 401
}

# overview_as LOGIN URL: the login is read from that file, because command lines are visible to all users.
overview_as() {
    ssh -F "$answers/ssh" -o LogLevel=ERROR billing-vm -- "curl -sS -m 60 -o /dev/null -w '%{http_code}\n' -K - $2" <"$1"
}

# broker_login: what curl reads as the login of the platform's user.
broker_login() {
    local login=$RABBITMQ_USER:$RABBITMQ_PASSWORD
    login=${login//\\/\\\\}
    printf 'user = "%s"\n' "${login//\"/\\\"}"
}

publish_by_page() {
    local order='{\"user_id\": \"25\", \"number_of_items\": \"3\", \"total_amount\": \"30\"}' vhost
    vhost=${RABBITMQ_VHOST//\//%2F}
    curl -sS -m 60 -K "$answers/rabbitmq" -H "$json" "http://$billing_vm:15672/api/exchanges/$vhost/amq.default/publish" \
        -d "{\"properties\": {}, \"routing_key\": \"$BILLING_QUEUE\", \"payload\": \"$order\", \"payload_encoding\": \"string\"}"
}
