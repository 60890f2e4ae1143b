#!/usr/bin/env bash
# A session with RabbitMQ's rabbitmqadmin: prints every command and what it says. docs/broker.md shows it as it ran.
#
#   rabbitmqadmin.sh HOST PORT USER PASSWORD    PORT is that of the private listener
set -uo pipefail

folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
printf '[default]\nhostname = %s\nport = %s\nusername = %s\npassword = %s\n' "$1" "$2" "$3" "$4" \
    >"$folder/.rabbitmqadmin.conf"
chmod 600 "$folder/.rabbitmqadmin.conf"
cd "$folder" || exit

# admin ARGUMENT…: shows the command as one would type it, then runs it.
admin() {
    local argument line='$ rabbitmqadmin'
    for argument in "$@"; do
        [[ $argument == *[!A-Za-z0-9_=./,-]* ]] && argument="'$argument'"
        line+=" $argument"
    done
    printf '%s\n' "$line"
    HOME=$folder rabbitmqadmin "$@" 2>&1
}

admin declare queue name=orders
admin declare exchange name=events type=topic
admin declare binding source=events destination=orders routing_key='order.#'
admin declare queue name=orders durable=false
admin publish exchange=events routing_key=order.new payload='{"id":1}' properties='{"delivery_mode":2}'
admin publish routing_key=nowhere payload=hello
admin list queues name durable messages_ready messages_unacknowledged consumers
admin list vhosts name messages
admin list bindings
admin get queue=orders
admin -f pretty_json get queue=orders ackmode=ack_requeue_false
admin publish routing_key=orders payload=hello
admin purge queue name=orders
admin show overview
admin list connections
admin export definitions.json
admin delete queue name=orders
admin delete exchange name=events
admin list queues
admin import definitions.json
admin list bindings
admin delete queue name=orders
admin delete queue name=orders
