# Sourced by billing-vm.sh: RabbitMQ, with the one user that .env names.
# shellcheck shell=bash

# A digest of what was set up in RabbitMQ by the last run.
rabbitmq_done=/var/lib/crud-master/rabbitmq.done

# run_rabbitmq: runs the server and creates a user who can use only the orders' queues.
run_rabbitmq() {
    local changed=no queue publish tags='' wanted exchange
    begin_step RabbitMQ
    # shellcheck disable=SC2153 # all of these come from .env
    put_file /etc/rabbitmq/rabbitmq.conf 644 <<END
# Written by scripts/provision. The firewall lets only gateway-vm in.
listeners.tcp.default = $RABBITMQ_PORT
# Publishers wait above this, instead of the kernel ending somebody: PostgreSQL, pm2 and billing need the rest.
vm_memory_high_watermark.absolute = ${RABBITMQ_MEMORY_MB:-200}MiB
disk_free_limit.absolute = 256MiB
END
    # The web page on port 15672 takes memory, so it is there for who asks for it.
    put_file /etc/rabbitmq/enabled_plugins 644 < <(
        if [[ ${RABBITMQ_MANAGEMENT:-0} == 1 ]]; then echo '[rabbitmq_management].'; else echo '[].'; fi
    )
    # Debian's unit gives up after 10 minutes, which a machine without virtualisation by the processor may need.
    install -d -m 755 /etc/systemd/system/rabbitmq-server.service.d
    put_file /etc/systemd/system/rabbitmq-server.service.d/crud-master.conf 644 <<'END'
[Service]
TimeoutStartSec=1800
Restart=on-failure
END
    if [[ $changed == yes ]]; then systemctl daemon-reload; fi
    enable_unit rabbitmq-server
    if [[ $changed == yes ]] || ! systemctl is-active --quiet rabbitmq-server; then
        systemctl restart rabbitmq-server
    fi
    # The names of the queue, of its dead letters, of the questions to billing and of the exchange for its reports, as a
    # regular expression; and those that RabbitMQ gives to the queues in which gateways hear reports and answers. A
    # message reaches a queue through the default exchange, which permissions call amq.default. Services that publish
    # events have exchanges.
    queue="^$(escaped "$BILLING_QUEUE")(\\.(dead|questions|reports))?\$|^amq\\.gen-"
    publish="$queue|^amq\\.default\$"
    for exchange in ${VM_EXCHANGES-}; do
        queue+="|^$(escaped "$exchange")\$" publish+="|^$(escaped "$exchange")\$"
    done
    # Without the tag the management page lets nobody in.
    if [[ ${RABBITMQ_MANAGEMENT:-0} == 1 ]]; then tags=management; fi
    # Each call of rabbitmqctl starts an Erlang machine, which takes seconds.
    # shellcheck disable=SC2153
    wanted=$(printf '%s\n' "$RABBITMQ_VHOST" "$RABBITMQ_USER" "$RABBITMQ_PASSWORD" "$queue" "$publish" "$tags" | sha256sum)
    if [[ $changed == no && -r $rabbitmq_done && $(<"$rabbitmq_done") == "$wanted" ]] && can_work; then return; fi
    wait_for "$start_limit" rabbitmqctl await_startup --timeout 300 >/dev/null 2>&1 ||
        fail "RabbitMQ does not start; see journalctl -u rabbitmq-server and /var/log/rabbitmq"
    # shellcheck disable=SC2153
    if [[ $RABBITMQ_VHOST != / ]] && ! rabbitmqctl --quiet list_vhosts | grep -qxF -- "$RABBITMQ_VHOST"; then
        rabbitmqctl --quiet add_vhost "$RABBITMQ_VHOST"
    fi
    make_rabbitmq_user
    rabbitmqctl --quiet set_permissions --vhost "$RABBITMQ_VHOST" "$RABBITMQ_USER" "$queue" "$publish" "$queue"
    if [[ -n $tags ]]; then rabbitmqctl --quiet set_user_tags "$RABBITMQ_USER" "$tags"; fi
    install -d -m 755 -- /var/lib/crud-master
    put_file "$rabbitmq_done" 600 <<<"$wanted"
}

# escaped TEXT: as a regular expression that only this text matches.
# shellcheck disable=SC2001 # a list of characters is wanted, each with a backslash
escaped() { sed 's/[][\.*^$+?(){}|]/\\&/g' <<<"$1"; }

# The password is passed by standard input, where other users cannot see it.
make_rabbitmq_user() {
    local users
    users=$(rabbitmqctl --quiet list_users | cut -f1)
    if ! grep -qxF -- "$RABBITMQ_USER" <<<"$users"; then
        printf '%s\n' "$RABBITMQ_PASSWORD" | rabbitmqctl --quiet add_user "$RABBITMQ_USER"
    elif ! printf '%s\n' "$RABBITMQ_PASSWORD" | rabbitmqctl authenticate_user "$RABBITMQ_USER" >/dev/null 2>&1; then
        printf '%s\n' "$RABBITMQ_PASSWORD" | rabbitmqctl --quiet change_password "$RABBITMQ_USER"
    fi
    # Every RabbitMQ has this user with a known password.
    if [[ $RABBITMQ_USER != guest ]] && grep -qxF guest <<<"$users"; then rabbitmqctl --quiet delete_user guest; fi
}

# stop_rabbitmq: stops and disables it, if our own broker is used instead.
stop_rabbitmq() {
    if systemctl is-active --quiet rabbitmq-server || systemctl is-enabled --quiet rabbitmq-server 2>/dev/null; then
        begin_step RabbitMQ
        say "Stopping RabbitMQ; what waits in its queues stays there."
        systemctl disable --quiet --now rabbitmq-server
    fi
}
