#!/usr/bin/env bash
# Provisions gateway-vm: the gateway, its tokens, and a firewall that opens its port. Vagrant runs it as root, with the
# settings of .env that belong here in the environment; run again, it changes only what differs.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=machine.sh
. "$here/machine.sh"

# The addresses in .env are for a single machine; these are for the virtual machines.
export GATEWAY_HOST=0.0.0.0
export INVENTORY_URL=http://$VM_INVENTORY:$INVENTORY_PORT
export RABBITMQ_HOST=$VM_BILLING
# Others in the network can reach the machine, so nobody may use all of it, unless .env says otherwise.
export GATEWAY_RATE_PER_S=${GATEWAY_RATE_PER_S:-200}
export GATEWAY_WRITE_RATE_PER_S=${GATEWAY_WRITE_RATE_PER_S:-100}
# The console shows commands for these machines.
export GATEWAY_DEPLOYMENT=vagrant
# An order is taken when the broker is away.
export GATEWAY_OUTBOX_DIR=/var/lib/crud-master/outbox

# make_tokens: with VM_TOKENS=1, the file of the gateway's tokens with one for each role. They are shown here and stored
# nowhere; the file has only their digests.
make_tokens() {
    local file=$services/api-gateway/tokens role made lines=''
    # A file of the host is not here, and without tokens everybody could do everything.
    [[ ${VM_TOKENS:-0} == 1 || -n ${GATEWAY_TOKENS_FILE-} ]] || return 0
    export GATEWAY_TOKENS_FILE=$file
    [[ ! -e $file ]] || return 0
    begin_step tokens
    install_binary api-gateway
    install -d -m 755 -- "$services/api-gateway"
    for role in read write admin; do
        made=$(/usr/local/bin/api-gateway --new-token "$role" "$role")
        lines+=$(grep -o "$role:$role:[0-9a-f]\{64\}" <<<"$made" | head -n 1)$'\n'
        sed -n 1,2p <<<"$made"
    done
    put_file "$file" 640 "$service_user" <<<"${lines%$'\n'}"
}

prepare_machine curl
# The Vagrantfile gives the URLs of further services.
urls=''
while IFS= read -r name; do urls+="$(variable_of "$name")_URL\$|"; done < <(gateway_services)
rules=()
private_rules "${GATEWAY_PRIVATE_PORT:-9301}"
# shellcheck disable=SC2034,SC2153 # open_firewall reads it; the port comes from .env
public_port=$GATEWAY_PORT
open_firewall "${rules[@]}"
install -d -m 755 -- /var/lib/crud-master
install -d -m 700 -o "$service_user" -g "$service_user" -- "$GATEWAY_OUTBOX_DIR"
make_tokens
run_service api-gateway "$urls"'GATEWAY_|INVENTORY_URL$|RABBITMQ_|BILLING_QUEUE$|(BILLING|BROKER)_(OWNER|CONTACT|REPOSITORY)$|SERVICE_TOKEN$|PRIVATE_HOST$|LOG_LEVEL$'
# The other machines may not be up yet, so wait for /health, not for /ready.
wait_until_serving api_gateway serving "http://127.0.0.1:$GATEWAY_PORT/health"
say "The gateway serves at http://$VM_GATEWAY:$GATEWAY_PORT"
end_steps
