# Sourced by audit.sh for --resilience: services are killed, machines lose their power, a new version comes, and then
# none.
# shellcheck shell=bash
# shellcheck disable=SC2154 # audit.sh and lib/audit.sh set the variables

kills() {
    chapter "Services that are killed"
    local machine program
    while read -r machine program; do killed_service "$machine" "${program//-/_}"; done < <(programs)
    ask "Is the platform as ready as before?"
    wait_for "$limit" ready || true
    request GET /ready
    expect_status 200
}

killed_service() {
    local machine=$1 name=$2 before after
    ask "Does pm2 bring $name back after kill -9?"
    before=$(service_pid "$machine" "$name")
    on "$machine" sudo kill -9 "${before:-none}" || true
    wait_calmly "$limit" has_other_pid "$machine" "$name" "$before" || true
    after=$(service_pid "$machine" "$name")
    saw "process ${before:-none} killed, process ${after:-none} runs"
    verdict "$([[ -n $before && -n $after && $after != "$before" ]] && echo yes)"
}

power_cut() {
    chapter "billing-vm loses its power"
    local customer=cut-$$-$RANDOM booting part
    see "the power switch of billing-vm" cut_power billing-vm
    ask "Does the gateway take 100 orders meanwhile, each within its deadline?"
    place "$customer" 1 100
    verdict "$([[ -z $refusals ]] && echo yes)" "not all were taken"
    expect_time 12
    ask "Are they in its outbox, and does it still serve movies?"
    request GET /api/status
    expect_body '"outbox":\{[^}]*"orders_waiting":[1-9]'
    request GET '/api/movies?limit=1'
    expect_status 200
    ask "Does it take 100 more while billing-vm boots?"
    vagrant up billing-vm >"$answers/up" 2>&1 &
    booting=$!
    place "$customer" 101 200 0.3
    verdict "$([[ -z $refusals ]] && echo yes)" "not all were taken"
    wait "$booting" || true
    saw "$(tail -n 3 "$answers/up")"
    ask "Is each of the 200 stored once when it is back, although all are sent again with their keys?"
    wait_calmly "$boot_limit" has_orders "$customer" 200 || true
    saw "in the table: $(orders_of "$customer")"
    place "$customer" 1 200
    wait_for "$boot_limit" nothing_waits || true
    saw "in the table after the repetition: $(orders_of "$customer")"
    verdict "$(has_orders "$customer" 200 && echo yes)"
    ask "Is every part back by itself?"
    wait_for "$boot_limit" ready || true
    wait_for "$limit" status_has "$(is_ok billing)" || true
    request GET /api/status
    for part in broker billing billing_db outbox; do expect_body "$(is_ok "$part")"; done
}

# cut_power MACHINE: by its provider, because even vagrant halt --force may tell the machine to shut down.
cut_power() {
    local machine=$root/.vagrant/machines/$1
    if [[ -s $machine/libvirt/id ]]; then
        virsh --connect "${LIBVIRT_DEFAULT_URI:-qemu:///system}" destroy "$(<"$machine/libvirt/id")"
    elif [[ -s $machine/virtualbox/id ]]; then
        VBoxManage controlvm "$(<"$machine/virtualbox/id")" poweroff
    else
        vagrant halt --force "$1"
    fi
}

# order_answer CUSTOMER NUMBER: places that order, with a key of its own, and prints the status.
order_answer() {
    curl -s -m 60 "${token[@]}" -o /dev/null -w '%{http_code}' -H "$json" -H "Idempotency-Key: $1-$2" \
        -d "{\"user_id\": \"$1\", \"number_of_items\": \"1\", \"total_amount\": \"1.50\"}" "$gateway/api/billing" || true
}

# place CUSTOMER FIRST LAST [PAUSE]: places these orders. Sets refusals, and took to the seconds of the slowest.
place() {
    local number answer began
    refusals='' took=0
    for ((number = $2; number <= $3; number++)); do
        began=$(now_ms)
        answer=$(order_answer "$1" "$number")
        began=$((($(now_ms) - began) / 1000))
        if ((began > took)); then took=$began; fi
        [[ $answer == 200 ]] || refusals+="$answer "
        sleep "${4:-0}"
    done
    saw "orders $2 to $3 placed; not taken: ${refusals:-none}; the slowest answer after $took s"
}

# The bash before 5 has only whole seconds.
now_ms() {
    local now=${EPOCHREALTIME:-$SECONDS.000000}
    echo $((${now%[.,]*} * 1000 + 10#${now#*[.,]} / 1000))
}

nothing_waits() { status_has '"messages_waiting":0' && status_has '"orders_waiting":0'; }

inventory_vm_halted() {
    chapter "inventory-vm is halted"
    see "vagrant halt inventory-vm" vagrant halt inventory-vm
    ask "Does the gateway answer with 503 and Retry-After, within its deadline?"
    request GET '/api/movies?limit=1'
    expect_status 503
    expect_header retry-after
    expect_time 12
    ask "Does it still take orders?"
    request POST /api/billing/ '{"user_id": "24", "number_of_items": "1", "total_amount": "1.50"}'
    expect_status 200
    ask "When inventory-vm is back, does it recover by itself?"
    see "vagrant up inventory-vm" vagrant up inventory-vm
    wait_for "$boot_limit" ready || true
    request GET '/api/movies?limit=1'
    expect_status 200
}

new_version() {
    chapter "A new version, while orders are placed"
    local customer=roll-$$-$RANDOM machine program
    ask "Do the steps of docs/vms.md bring new binaries to all machines?"
    # What differs from dist is replaced, so these look like those of another version.
    while read -r machine program; do
        program=/usr/local/bin/$program
        on "$machine" "sudo sh -c 'cp $program $program.new && echo >>$program.new && mv $program.new $program'"
    done < <(programs)
    roll_out >"$answers/rolled" 2>&1 &
    place_during $! "$customer" 1200
    see "vagrant rsync; vagrant provision of each machine: what it said" \
        grep -E 'Restarted|Starting|provisioned|rror' "$answers/rolled"
    while read -r machine program; do expect ".*$machine: Restarted ${program//-/_}\."; done < <(programs)
    ask "Were refusals over within 15 s?"
    saw "$placed orders placed; refused $retried times; the longest time without one that was taken: $longest_ms ms"
    verdict "$([[ $longest_ms -lt 15000 ]] && echo yes)"
    ask "Is each order stored once?"
    wait_calmly "$boot_limit" has_orders "$customer" "$placed" || true
    wait_for "$boot_limit" nothing_waits || true
    saw "in the table: $(orders_of "$customer")"
    verdict "$(has_orders "$customer" "$placed" && echo yes)"
}

# programs: the machine and the name of each binary that pm2 runs.
programs() {
    local name machine
    printf '%s\n' "gateway-vm api-gateway" "inventory-vm inventory-app" "billing-vm billing-app"
    if [[ ${BROKER:-rabbitmq} == embedded ]]; then echo "billing-vm broker"; fi
    for name in "${service_names[@]}"; do
        machine=$(setting_of "$name" VM)
        printf '%s\n' "${machine:-inventory-vm} $name-app"
    done
}

# What provision says when it changes something.
changes='Wrote|Install(ed|ing)|Starting|Restarted|Stopping|Removing|Making|Building|shown only now'

second_provision() {
    chapter "A second provision"
    local began=$SECONDS machine
    ask "Does vagrant provision change nothing when nothing has changed, and show no token again?"
    vagrant provision >"$answers/again" 2>&1 || true
    see "vagrant provision: what it changed, and how long it took" grep -E "($changes)|is provisioned|rror" "$answers/again"
    saw "$((SECONDS - began)) s for all three"
    verdict "$(! grep -qE ": ($changes)|: .*shown only now" <<<"$seen" && echo yes)" "it changed something"
    for machine in gateway-vm inventory-vm billing-vm; do expect ".*$machine is provisioned, .*"; done
}

# Those that take messages and requests first, those that send them last.
roll_out() {
    local machine
    vagrant rsync || true
    for machine in billing-vm inventory-vm gateway-vm; do vagrant provision "$machine"; done
}

# place_during PROCESS CUSTOMER COUNT: places orders until there are that many and the process has ended; repeats each
# with its key until it is taken, for two minutes at most. Sets placed, retried and longest_ms.
place_during() {
    local process=$1 customer=$2 count=$3 began waited
    placed=0 retried=0 longest_ms=0
    while ((placed < count)) || kill -0 "$process" 2>/dev/null; do
        placed=$((placed + 1)) began=$(now_ms)
        until [[ $(order_answer "$customer" "$placed") == 200 ]]; do
            retried=$((retried + 1)) waited=$(($(now_ms) - began))
            ((waited < 120000)) || break
            sleep 0.1
        done
        waited=$(($(now_ms) - began))
        if ((waited > longest_ms)); then longest_ms=$waited; fi
        # Fewer than the gateway lets one client place.
        sleep 0.02
    done
}
