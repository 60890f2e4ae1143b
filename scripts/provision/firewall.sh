# Sourced by the scripts that provision a virtual machine: its firewall.
# shellcheck shell=bash

# The port that everybody may use, if the machine has one. Its connections are not tracked: the kernel remembers each
# one for two minutes after its end, and in a small machine no more than 4,096. One client with short requests could fill
# that table, and then the kernel drops the packets of new connections, everybody's.
public_port=''

# open_firewall RULE…: allows SSH, the public port and these nft rules for incoming traffic. Everything else is rejected,
# not dropped, so that clients fail at once. Local and outgoing traffic is allowed.
open_firewall() {
    local changed=no untracked_in='' untracked_out=''
    if [[ -n $public_port ]]; then
        set -- "tcp dport $public_port accept" "$@"
        untracked_in="tcp dport $public_port notrack" untracked_out="tcp sport $public_port notrack"
    fi
    put_file /etc/nftables.conf 644 <<END
#!/usr/sbin/nft -f
# Written by scripts/provision; nftables.service loads it at boot.
flush ruleset

table inet untracked {
    chain prerouting {
        type filter hook prerouting priority raw;
        $untracked_in
    }
    chain output {
        type filter hook output priority raw;
        oif lo notrack
        $untracked_out
    }
}

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
    enable_unit nftables
    if [[ $changed == yes ]] || ! systemctl is-active --quiet nftables; then
        systemctl reload-or-restart nftables
    fi
}

# private_rules PORT…: adds to rules one that lets VM_MONITORING, addresses separated by commas, reach the private
# listeners on these ports. Without it they listen on loopback alone.
private_rules() {
    local ports
    export PRIVATE_HOST=127.0.0.1
    [[ -n ${VM_MONITORING-} ]] || return 0
    PRIVATE_HOST=0.0.0.0
    ports=$(IFS=, && printf %s "$*")
    rules+=("ip saddr { $VM_MONITORING } tcp dport { $ports } accept")
}
