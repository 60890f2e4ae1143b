#!/usr/bin/env bash
# Installs packages of Debian or Ubuntu, as root. Called by need, in packages.sh.
#
#   scripts/lib/install-packages.sh PACKAGE…
#
# None of the installed services starts, now or at the next boot, and PostgreSQL's package creates no cluster. Services
# that existed before are not changed. With KEEP_SERVICES=yes, for the project's virtual machines, Debian's defaults
# apply.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
apt=(apt-get -q -o DPkg::Lock::Timeout=300)
policy=/usr/sbin/policy-rc.d
cluster_settings=/etc/postgresql-common/createcluster.conf

main() {
    # Without current package lists, apt may not find a package.
    "${apt[@]}" update >/dev/null || printf '%s\n' "apt-get update failed; trying with the lists that are there."
    "${apt[@]}" install --no-install-recommends --assume-no "$@" 2>/dev/null |
        sed -n '/^Need to get/p; /^After this operation/p' || true
    if [[ ${KEEP_SERVICES-} == yes ]]; then
        install_packages "$@"
        return
    fi
    local before
    before=$(installed)
    trap restore EXIT
    forbid_new_services
    if [[ " $* " == *" postgresql "* ]]; then
        forbid_cluster
    fi
    install_packages "$@"
    disable_services "$before"
}

install_packages() {
    "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null
}

# installed: lists the installed packages.
installed() { dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort; }

# forbid_new_services: maintainer scripts ask the policy before they start a service (invoke-rc.d(8)). An existing
# policy is left as it is.
forbid_new_services() {
    local known
    [[ ! -e $policy ]] || return 0
    known=$(find /etc/init.d /lib/systemd/system /etc/systemd/system -maxdepth 1 -printf '%f ' 2>/dev/null || true)
    install -m 755 /dev/stdin "$policy" <<END
#!/bin/sh
# Temporary, by scripts/lib/install-packages.sh: services that were not there before do not start.
case " ${known//.service/} " in
    *" \${1%.service} "* | *" \${1%@*}@ "*) exit 0 ;;
esac
exit 101
END
    policy_is_ours=yes
}

# forbid_cluster: writes the file that keeps PostgreSQL's package from creating a cluster that starts at every boot.
forbid_cluster() {
    [[ -e $cluster_settings ]] || "${apt[@]}" install -y --no-install-recommends postgresql-common >/dev/null
    cp -p -- "$cluster_settings" "$cluster_settings.before"
    printf '\ncreate_main_cluster = false\n' >>"$cluster_settings"
}

restore() {
    [[ ${policy_is_ours-} != yes ]] || rm -f -- "$policy"
    [[ ! -e $cluster_settings.before ]] || mv -- "$cluster_settings.before" "$cluster_settings"
}

# disable_services BEFORE: disables the services that the new packages would start at the next boot.
disable_services() {
    local package file
    while IFS= read -r package; do
        while IFS= read -r file; do
            case $file in
                *@.*) ;;
                /lib/systemd/system/*.service | /lib/systemd/system/*.socket | /lib/systemd/system/*.timer)
                    [[ ! -x $(command -v systemctl) ]] || systemctl disable --quiet "${file##*/}" 2>/dev/null || true
                    ;;
                /etc/init.d/*) update-rc.d "${file##*/}" disable 2>/dev/null || true ;;
            esac
        done < <(dpkg -L "$package" | sed 's|^/usr/lib/systemd|/lib/systemd|')
    done < <(comm -13 <(printf '%s\n' "$1") <(installed))
}

main "$@"
