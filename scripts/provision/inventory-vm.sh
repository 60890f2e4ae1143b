#!/usr/bin/env bash
# Provisions inventory-vm: PostgreSQL with movies_db, inventory, the further services that are here, and a firewall that
# lets only gateway-vm in. Vagrant runs it as root, with the settings of .env that belong here in the environment; run
# again, it changes only what differs.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=machine.sh
. "$here/machine.sh"
# shellcheck source=postgresql.sh
. "$here/postgresql.sh"
# shellcheck source=services.sh
. "$here/services.sh"

# The addresses in .env are for a single machine; these are for the virtual machines.
export INVENTORY_HOST=$VM_INVENTORY
export INVENTORY_DB_HOST=127.0.0.1
export INVENTORY_DB_PORT=5432

prepare_machine curl postgres
# shellcheck disable=SC2153 # the port comes from .env
rules=("ip saddr $VM_GATEWAY tcp dport $INVENTORY_PORT accept")
service_rules
private_rules "${INVENTORY_PRIVATE_PORT:-9302}" "${service_private_ports[@]}"
open_firewall "${rules[@]}"
run_postgresql "$INVENTORY_DB_NAME" "$INVENTORY_DB_USER" "$INVENTORY_DB_PASSWORD"
run_service inventory-app 'INVENTORY_|SERVICE_TOKEN$|PRIVATE_HOST$|LOG_LEVEL$'
# On the private listener, because with SERVICE_TOKEN the other one serves only the gateway.
wait_until_serving inventory_app serving "http://127.0.0.1:${INVENTORY_PRIVATE_PORT:-9302}/ready"
say "Inventory serves at http://$INVENTORY_HOST:$INVENTORY_PORT, for gateway-vm"
run_services "$VM_INVENTORY"
end_steps
