#!/usr/bin/env bash
# Provisions billing-vm: PostgreSQL with billing_db, the broker, billing, and a firewall that lets only gateway-vm to
# the broker. The broker is RabbitMQ, or our own with BROKER=embedded. Vagrant runs it as root, with the settings of
# .env that belong here in the environment; run again, it changes only what differs.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=machine.sh
. "$here/machine.sh"
# shellcheck source=postgresql.sh
. "$here/postgresql.sh"
# shellcheck source=services.sh
. "$here/services.sh"
# shellcheck source=rabbitmq.sh
. "$here/rabbitmq.sh"

# The addresses in .env are for a single machine; these are for the virtual machines.
export BILLING_DB_HOST=127.0.0.1
export BILLING_DB_PORT=5432
export RABBITMQ_HOST=$VM_BILLING
export BROKER_HOST=$VM_BILLING
export BROKER_PORT=$RABBITMQ_PORT
export BROKER_DATA_DIR=/var/lib/crud-master/broker

# can_work: whether billing can reach its database and the broker.
can_work() {
    (cd "$services/billing-app" && /usr/local/bin/billing-app --check) >/dev/null 2>&1
}

rules=("ip saddr $VM_GATEWAY tcp dport $RABBITMQ_PORT accept")
# Services on inventory-vm that publish events.
if [[ ${VM_PUBLISHERS-} == *"$VM_INVENTORY"* ]]; then rules+=("ip saddr $VM_INVENTORY tcp dport $RABBITMQ_PORT accept"); fi
broker=${BROKER:-rabbitmq}
case $broker in
    rabbitmq)
        prepare_machine curl postgres rabbitmq-server
        if [[ ${RABBITMQ_MANAGEMENT:-0} == 1 ]]; then rules+=("tcp dport 15672 accept"); fi
        ;;
    embedded) prepare_machine curl postgres ;;
    *) fail "BROKER is $broker; it can be rabbitmq or embedded" ;;
esac
service_rules
private_rules "${BILLING_PRIVATE_PORT:-9303}" "${BROKER_PRIVATE_PORT:-9304}" "${service_private_ports[@]}"
open_firewall "${rules[@]}"
run_postgresql "$BILLING_DB_NAME" "$BILLING_DB_USER" "$BILLING_DB_PASSWORD"
if [[ $broker == rabbitmq ]]; then
    remove_service broker
    run_rabbitmq
else
    stop_rabbitmq
    install -d -m 755 -- /var/lib/crud-master
    install -d -m 700 -o "$service_user" -g "$service_user" -- "$BROKER_DATA_DIR"
    run_service broker 'BROKER_|RABBITMQ_(USER|PASSWORD|VHOST)$|PRIVATE_HOST$|LOG_LEVEL$'
fi
run_service billing-app 'BILLING_|RABBITMQ_|PRIVATE_HOST$|LOG_LEVEL$'
wait_until_serving billing_app can_work
say "Billing works, with ${broker/embedded/the embedded broker}"
run_services "$VM_BILLING"
end_steps
