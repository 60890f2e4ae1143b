# Sourced by the scripts that provision a virtual machine: common steps and writing files.
# shellcheck shell=bash

provision=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=../lib/project.sh
. "$provision/../lib/project.sh"
# shellcheck source=../lib/packages.sh
. "$provision/../lib/packages.sh"
# shellcheck source=../lib/postgres.sh
. "$provision/../lib/postgres.sh"
# shellcheck source=firewall.sh
. "$provision/firewall.sh"
# shellcheck source=binaries.sh
. "$provision/binaries.sh"
# shellcheck source=pm2.sh
. "$provision/pm2.sh"

# The script that sources this one is run by Vagrant, without arguments.
case ${1-} in
    '') ;;
    -h | --help) show_help && exit ;;
    *) fail "unknown argument $1" ;;
esac

# How long a server may take to answer after its start, in seconds. A host that is slow is normal.
start_limit=900

# The user that the services run as, under root's pm2. It owns only what a service has to write.
service_user=crud-master
# Each service has a folder here with its settings.
services=/opt/crud-master
# Their logs.
logs=/var/log/crud-master

# What each step took, for the last line of the output.
step='' steps=''

# begin_step NAME: says what is done from here on, and notes how long the step before took.
begin_step() {
    end_step
    step=$1 step_began=$SECONDS
    say "== $step"
}

end_step() { [[ -z $step ]] || steps+="${steps:+, }$step $((SECONDS - step_began)) s"; }

# end_steps: the last line of the output.
end_steps() {
    end_step
    say "$(hostname) is provisioned, in $SECONDS s: $steps"
}

# prepare_machine PROGRAM…: the base of every machine, and the packages of these programs beside it.
prepare_machine() {
    begin_step "base system"
    ((EUID == 0)) || fail "this script provisions a virtual machine, as root; run vagrant up or vagrant provision"
    # The host's locale may not exist here. PostgreSQL's first cluster takes its encoding from this one.
    export LC_ALL=C.UTF-8
    make_swap /swapfile 1024
    # npm is there to install pm2, and slow to ask.
    [[ -x $(type -P pm2) ]] || set -- node npm "$@"
    # The stages of an order have their times from two machines, so the clocks must agree.
    KEEP_SERVICES=yes need logrotate nft timesyncd "$@"
    id -u "$service_user" >/dev/null 2>&1 ||
        useradd --system --user-group --home-dir "$services" --shell /usr/sbin/nologin "$service_user"
    install -d -m 755 -- "$services" "$logs"
    put_file /etc/logrotate.d/crud-master 644 <<END
# pm2 keeps the files open, so they are copied and then emptied.
$logs/*.log {
    daily
    maxsize 10M
    rotate 4
    copytruncate
    compress
    missingok
    notifempty
}
END
}

# enable_unit NAME: lets systemd start it at every boot. Asking first is quicker.
enable_unit() { systemctl is-enabled --quiet "$1" 2>/dev/null || systemctl enable --quiet "$1"; }

# make_swap FILE MEGABYTES: adds swap, for when the package manager, npm or the compiler needs more memory than there
# is.
make_swap() {
    local file=$1 megabytes=$2
    [[ ! -e $file ]] || return 0
    say "Making a swap file of $megabytes MiB."
    fallocate -l "${megabytes}M" "$file.new"
    chmod 600 "$file.new"
    mkswap "$file.new" >/dev/null
    mv -- "$file.new" "$file"
    swapon -- "$file"
    grep -q "^$file " /etc/fstab || printf '%s none swap sw 0 0\n' "$file" >>/etc/fstab
}

# put_file PATH MODE [GROUP]: writes standard input to PATH atomically. Sets changed to yes if the content differs, so
# that servers are restarted only when needed.
put_file() {
    local path=$1 mode=$2 group=${3:-root} new
    new=$(mktemp "$path.XXXXXX")
    cat >"$new"
    chmod -- "$mode" "$new"
    chown -- "root:$group" "$new"
    if cmp -s -- "$new" "$path" && [[ $(stat -c %a:%G -- "$path") == "$(stat -c %a:%G -- "$new")" ]]; then
        rm -f -- "$new"
    else
        mv -f -- "$new" "$path"
        say "Wrote $path."
        changed=yes
    fi
}

# write_settings FOLDER PATTERN: the file .env of a service, with those exported settings whose names match the
# pattern. Only root and the service can read it.
write_settings() {
    local folder=$1 pattern=$2
    install -d -m 755 -- "$folder"
    put_file "$folder/.env" 640 "$service_user" < <(
        quote="'\\''"
        for name in $(compgen -e | sort); do
            if [[ $name =~ ^($pattern) ]]; then printf "%s='%s'\n" "$name" "${!name//\'/$quote}"; fi
        done
    )
}
