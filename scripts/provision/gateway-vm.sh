#!/usr/bin/env bash
# Provisions gateway-vm: the gateway, and a firewall that opens its port. Vagrant runs it as root, with the settings of
# .env that belong here in the environment; run again, it changes only what differs.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=machine.sh
. "$here/machine.sh"

# The addresses in .env are for a single machine; these are for the virtual machines.
export GATEWAY_HOST=0.0.0.0
export INVENTORY_URL=http://$VM_INVENTORY:$INVENTORY_PORT
export RABBITMQ_HOST=$VM_BILLING
# An order is taken when the broker is away.
export GATEWAY_OUTBOX_DIR=/var/lib/crud-master/outbox

prepare_machine curl
# shellcheck disable=SC2153 # the port comes from .env
open_firewall "tcp dport $GATEWAY_PORT accept"
install -d -m 755 -- /var/lib/crud-master
install -d -m 700 -o "$service_user" -g "$service_user" -- "$GATEWAY_OUTBOX_DIR"
run_service api-gateway 'GATEWAY_|INVENTORY_URL$|RABBITMQ_|BILLING_QUEUE$|LOG_LEVEL$'
# The other machines may not be up yet, so wait for /health, not for /ready.
wait_until_serving api_gateway serving "http://127.0.0.1:$GATEWAY_PORT/health"
say "The gateway serves at http://$VM_GATEWAY:$GATEWAY_PORT"
