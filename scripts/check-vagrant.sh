#!/usr/bin/env bash
# Checks the provisioning without creating a virtual machine: the syntax of the Vagrantfile and of every script, that
# each machine gets exactly the settings it needs, and that every character of a password arrives.
#
#   scripts/check-vagrant.sh
#
# Takes a few seconds. Uses vagrant validate where vagrant is installed. Installs ruby if it is missing.
set -euo pipefail

here=$(dirname -- "${BASH_SOURCE[0]}")
# shellcheck source=lib/project.sh
. "$here/lib/project.sh"
# shellcheck source=lib/packages.sh
. "$here/lib/packages.sh"

case ${1-} in
    '') ;;
    -h | --help)
        show_help
        exit
        ;;
    *) fail "unknown argument $1; see scripts/check-vagrant.sh --help" ;;
esac
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

main() {
    local script
    need ruby shellcheck
    while IFS= read -r script; do
        bash -n "$script" || fail "$script has a syntax error"
    done < <(find "$root/scripts" "$root/.ci" -type f \( -name '*.sh' -o -name run \))
    (cd "$root" && shellcheck --check-sourced scripts/provision/*-vm.sh)
    ruby -c "$root/Vagrantfile" >/dev/null || fail "the Vagrantfile has a syntax error"
    if command -v vagrant >/dev/null; then
        # Vagrant writes into the folders that these variables name.
        (cd "$root" && VAGRANT_HOME=$work/home VAGRANT_DOTFILE_PATH=$work/dot VAGRANT_CHECKPOINT_DISABLE=1 \
            vagrant validate --ignore-provider >"$work/validate" 2>&1) || fail "vagrant validate: $(<"$work/validate")"
    fi
    "$root/scripts/tests/read-settings.sh" ruby
    settings_arrive
    names_and_folders
    say "The Vagrantfile and the scripts are in order."
}

# Runs the Vagrantfile with a .env.local whose values contain characters that are special in shells and Ruby, and checks
# what arrives.
settings_arrive() {
    # shellcheck disable=SC1003,SC2016 # nothing of this may expand, and a backslash is its last character
    local nasty='a'\''b"c$HOME`d`\e #{f} %g !h é\' machine name
    cp -- "$root/Vagrantfile" "$work/Vagrantfile"
    mkdir -p -- "$work/scripts/lib"
    cp -- "$root/scripts/lib/settings.rb" "$work/scripts/lib/settings.rb"
    grep -v '^[A-Z_]*PASSWORD=' "$root/.env" >"$work/.env"
    printf 'RABBITMQ_PASSWORD=overridden\n' >>"$work/.env"
    for name in INVENTORY_DB BILLING_DB RABBITMQ; do
        printf "%s_PASSWORD='%s'\n" "$name" "${nasty//\'/\'\\\'\'}"
    done >"$work/.env.local"
    # One service where services are by default, one elsewhere, one that is not ours.
    sed -i 's/^#*GATEWAY_SERVICES=.*/GATEWAY_SERVICES=todo=\/todo,my-rooms=\/room,films=\/films/' "$work/.env"
    printf '%s\n' TODO_PORT=8090 TODO_DB_NAME=todo_db TODO_DB_USER=todo "TODO_DB_PASSWORD='${nasty//\'/\'\\\'\'}'" \
        TODO_EXCHANGE=todo VM_MONITORING=192.168.56.1 VM_TOKENS=1 \
        MY_ROOMS_PORT=8091 MY_ROOMS_DB_NAME=rooms_db MY_ROOMS_VM=billing-vm FILMS_URL=http://films:1 \
        '#TODO_PRIVATE_PORT=9305' '#MY_ROOMS_PRIVATE_PORT=9306' MY_ROOMS_PRIVATE_PORT=9399 >>"$work/.env"
    (
        # Variables of this shell would override the file.
        for name in $(compgen -e | grep -E '^(GATEWAY|INVENTORY|BILLING|RABBITMQ|BROKER|LOG|VM)(_|$)' || true); do
            unset "$name"
        done
        ruby "$root/scripts/lib/vagrantfile.rb" "$work/Vagrantfile" "$work"
    )
    for machine in gateway-vm inventory-vm billing-vm; do
        [[ -s $work/$machine.sh ]] || fail "the Vagrantfile does not define $machine"
    done
    arrives gateway-vm RABBITMQ_PASSWORD "$nasty"
    arrives inventory-vm INVENTORY_DB_PASSWORD "$nasty"
    arrives billing-vm BILLING_DB_PASSWORD "$nasty"
    arrives billing-vm RABBITMQ_PASSWORD "$nasty"
    arrives gateway-vm INVENTORY_DB_PASSWORD ''
    arrives gateway-vm BILLING_DB_PASSWORD ''
    # For the service there that publishes events.
    arrives inventory-vm RABBITMQ_PASSWORD "$nasty"
    arrives billing-vm VM_EXCHANGES todo
    arrives billing-vm VM_PUBLISHERS 192.168.56.11
    arrives gateway-vm VM_TOKENS 1
    for machine in gateway-vm inventory-vm billing-vm; do arrives "$machine" VM_MONITORING 192.168.56.1; done
    arrives inventory-vm BILLING_DB_PASSWORD ''
    arrives billing-vm INVENTORY_DB_PASSWORD ''
    arrives gateway-vm GATEWAY_SERVICES todo=/todo,my-rooms=/room,films=/films
    arrives gateway-vm TODO_URL http://192.168.56.11:8090
    arrives gateway-vm MY_ROOMS_URL http://192.168.56.12:8091
    arrives gateway-vm FILMS_URL http://films:1
    arrives gateway-vm TODO_DB_PASSWORD ''
    arrives inventory-vm GATEWAY_SERVICES todo=/todo
    arrives inventory-vm TODO_DB_PASSWORD "$nasty"
    arrives inventory-vm MY_ROOMS_DB_NAME ''
    arrives billing-vm GATEWAY_SERVICES my-rooms=/room
    arrives billing-vm MY_ROOMS_DB_NAME rooms_db
    arrives billing-vm TODO_DB_PASSWORD ''
    # The default in a comment, and a setting, which wins.
    arrives inventory-vm TODO_PRIVATE_PORT 9305
    arrives billing-vm MY_ROOMS_PRIVATE_PORT 9399
    arrives gateway-vm TODO_PRIVATE_PORT ''
}

# No machine has a name of its own in VirtualBox, where it would be that of all projects. The project's folder is copied
# without its passwords; where it is shared instead, root alone can read it.
names_and_folders() {
    local machine
    ! grep ' name= ' "$work/calls" || fail "the Vagrantfile names a machine for its provider"
    grep -q '^ synced_folder .*"/vagrant".*"\.env", "\.env\.local"' "$work/calls" || fail "the machines would get a copy of .env"
    for machine in gateway-vm inventory-vm billing-vm; do
        grep '^'"$machine"' synced_folder .*"/vagrant"' "$work/calls" | grep 'owner.*root.*group.*root' |
            grep -q 'dmode=700.*fmode=700' || fail "everybody in $machine could read a shared folder"
    done
}

# arrives MACHINE SETTING VALUE: checks the value in the machine's script, without its last line, which would start the
# provisioning.
arrives() {
    local found
    # shellcheck disable=SC2016 # it is for the shell that reads the script
    found=$(sed -e '/^rm -f/d' -e '/^exec /d' "$work/$1.sh" | cat - <(printf 'printf %%s "${%s-}"\n' "$2") |
        env -u "$2" sh)
    [[ $found == "$3" ]] || fail "$2 arrives in $1 as: $found"
}

main
