# Sourced by the scripts that provision a virtual machine: the services, under root's pm2.
# shellcheck shell=bash

# The major version of pm2 that these scripts are written for.
pm2_major=7

# Calls pm2 with an empty environment, because pm2 stores its environment and ours contains passwords. In the folder /,
# because pm2 would take a file named like an app for the app.
pm2() {
    (cd / && exec env -i HOME=/root LC_ALL=C.UTF-8 PATH="$PATH" "$(type -P pm2)" "$@")
}

# run_pm2: installs it, and lets systemd start it now and at every boot, with what pm2 save has saved.
run_pm2() {
    # Not the caller's limit: a changed limit must not restart a service.
    local changed=no
    if ! type -P pm2 >/dev/null; then
        say "Installing pm2 $pm2_major with npm."
        npm install --global --no-audit --no-fund --loglevel=error "pm2@$pm2_major"
    fi
    systemctl is-enabled --quiet pm2-root 2>/dev/null || pm2 startup systemd -u root --hp /root >/dev/null
    # systemd's timeout of 90 s may be too short for a boot without hardware virtualisation. And the unit fails if an
    # earlier pm2 command has already started pm2; so that pm2 is ended first. Its services end with it and are restored
    # from the saved list.
    install -d -m 755 /etc/systemd/system/pm2-root.service.d
    put_file /etc/systemd/system/pm2-root.service.d/crud-master.conf 644 <<'END'
[Service]
TimeoutStartSec=1800
RestartSec=5
ExecStartPre=/bin/sh -c 'pkill -f "^PM2 .*God [D]aemon" || exit 0; for _ in $$(seq 100); do sleep 0.2; pgrep -f "^PM2 .*God [D]aemon" >/dev/null || exit 0; done; pkill -KILL -f "^PM2 .*God [D]aemon"'
END
    if [[ $changed == yes ]]; then systemctl daemon-reload; fi
    # A start that was already running when the file changed does not use it, and may fail.
    systemctl is-active --quiet pm2-root || systemctl start pm2-root || systemctl restart pm2-root
}

# run_service PROGRAM PATTERN: keeps the program running with the settings that match the pattern; restarts it when the
# binary or a setting has changed. pm2 knows it as api_gateway and, by its namespace, as api-gateway.
run_service() {
    local program=$1 pattern=$2 name=${1//-/_} changed=no is_old
    begin_step "$program"
    install_binary "$program"
    write_settings "$services/$program" "$pattern"
    is_old=$changed changed=no
    # pm2 interrupts a service and gives it kill_timeout to finish, more than the 10 s that a busy one takes at most.
    # One that ends by itself is started again, at first after 100 ms, then more slowly each time. More arenas of glibc's
    # allocator, and a cache for every thread, would keep more memory after many connections.
    put_file "$services/$program/pm2.json" 644 <<END
{
  "apps": [{
    "name": "$name",
    "namespace": "$program",
    "script": "/usr/local/bin/$program",
    "interpreter": "none",
    "exec_mode": "fork",
    "cwd": "$services/$program",
    "env": { "GLIBC_TUNABLES": "glibc.malloc.arena_max=2:glibc.malloc.tcache_count=0" },
    "uid": "$service_user",
    "gid": "$service_user",
    "kill_timeout": 12000,
    "exp_backoff_restart_delay": 100,
    "out_file": "$logs/$name.log",
    "error_file": "$logs/$name.log",
    "merge_logs": true,
    "vizion": false
  }]
}
END
    run_pm2
    if [[ $changed == no && $is_old == no ]] && runs "$program"; then return; fi
    # The service reads its settings itself, so a restart is enough for them and for a new binary, and takes a fraction
    # of a second. pm2 would keep the old definition of a name it knows, so a changed one needs a new start.
    if [[ $changed == no ]] && pm2 restart "$name" >/dev/null 2>&1; then
        say "Restarted $name."
        return
    fi
    say "Starting $name."
    if [[ -e /root/.pm2/dump.pm2 ]]; then pm2 delete "$name" >/dev/null 2>&1 || true; fi
    pm2 start "$services/$program/pm2.json" >/dev/null
    pm2 save --force >/dev/null
}

# runs PROGRAM: whether a process of the installed binary runs. One that was replaced has another path in /proc. Asking
# pm2 would take seconds in a slow machine.
runs() { [[ -n $(find /proc -maxdepth 2 -name exe -lname "/usr/local/bin/$1" 2>/dev/null) ]]; }

# remove_service PROGRAM: removes a service that the machine no longer needs.
remove_service() {
    local name=${1//-/_}
    [[ -e $services/$1/pm2.json ]] || return 0
    say "Removing $name."
    pm2 delete "$name" >/dev/null 2>&1 || true
    pm2 save --force >/dev/null
    rm -rf -- "${services:?}/$1"
}

# serving URL: whether it answers successfully.
serving() { curl -fsS -m 10 -o /dev/null "$1" 2>/dev/null; }

# wait_until_serving NAME COMMAND…: shows the end of the log when the command does not succeed in time.
wait_until_serving() {
    local name=$1
    shift
    wait_for "$start_limit" "$@" && return 0
    tail -n 20 -- "$logs/$name.log" >&2 || true
    fail "$name does not get ready; its log is $logs/$name.log"
}
