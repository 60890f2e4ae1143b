# Sourced by the scripts that provision a virtual machine: its firewall.
# shellcheck shell=bash

# open_firewall RULE…: allows SSH and these nft rules for incoming traffic. Everything else is rejected, not dropped, so
# that clients fail at once. Local and outgoing traffic is allowed.
open_firewall() {
    local changed=no
    put_file /etc/nftables.conf 644 <<END
#!/usr/sbin/nft -f
# Written by scripts/provision; nftables.service loads it at boot.
flush ruleset

table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        iif lo accept
        ct state established,related accept
        ct state invalid drop
        meta l4proto { icmp, ipv6-icmp } accept
        tcp dport 22 accept
$(printf '        %s\n' "$@")
        reject with icmpx admin-prohibited
    }
}
END
    nft --check --file /etc/nftables.conf || fail "the firewall's rules in /etc/nftables.conf are not valid"
    systemctl enable --quiet nftables
    if [[ $changed == yes ]] || ! systemctl is-active --quiet nftables; then
        systemctl reload-or-restart nftables
    fi
}
