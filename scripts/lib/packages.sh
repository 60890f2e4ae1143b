# Sourced by the scripts: which programs they need, and how to install those that are missing.
# shellcheck shell=bash

# Every program that some script needs beyond a Debian base system, and the package of Debian and Ubuntu it is in.
# This is the only list of packages; scripts name programs.
package_of() {
    case $1 in
        cc) say build-essential ;;
        curl) say curl ;;
        postgres) say postgresql ;;
        rabbitmq-server) say rabbitmq-server ;;
        jq) say jq ;;
        shellcheck) say shellcheck ;;
        git) say git ;;
        wrk) say wrk ;;
        nginx) say nginx-light ;;
        nft) say nftables ;;
        node) say nodejs ;;
        npm) say npm ;;
        logrotate) say logrotate ;;
        ruby) say ruby ;;
        python3-venv) say python3-venv ;;
        chromium) say chromium ;;
        promtool) say prometheus ;;
        *) fail "no package is known for $1" ;;
    esac
}

# has PROGRAM: whether it is installed. Servers are often outside PATH.
has() {
    case $1 in
        postgres) (find_postgres) 2>/dev/null ;;
        rabbitmq-server) [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] ;;
        python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    esac
}

# need PROGRAM…: installs the packages of those that are missing, after saying so.
need() {
    local program packages=()
    for program in "$@"; do
        has "$program" || packages+=("$(package_of "$program")")
    done
    ((${#packages[@]} > 0)) || return 0
    local become_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || fail "missing: ${packages[*]}; install them as root and come back"
        become_root=(sudo)
    fi
    command -v apt-get >/dev/null ||
        fail "missing: ${packages[*]} (their names in Debian); this system has no apt-get, please install them yourself"
    say "Installing ${packages[*]} with apt-get."
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    "${become_root[@]}" "${apt[@]}" update || say "apt-get update failed; trying with the lists that are there."
    "${become_root[@]}" "${apt[@]}" install -y --no-install-recommends "${packages[@]}" ||
        fail "apt-get could not install ${packages[*]}"
    for program in "$@"; do
        has "$program" || fail "$(package_of "$program") is installed, but $program is not found"
    done
}

# need_rust: cargo, and the linker that it calls.
need_rust() {
    command -v cargo >/dev/null || PATH=$PATH:${HOME:-/root}/.cargo/bin
    command -v cargo >/dev/null || fail "there is no Rust toolchain; install one from https://rustup.rs and come back"
    need cc
}

# need_component NAME: a part of the Rust toolchain that a minimal installation leaves out.
need_component() {
    cargo "${1/rustfmt/fmt}" --version >/dev/null 2>&1 && return 0
    command -v rustup >/dev/null || fail "this Rust toolchain has no $1, and there is no rustup to add it"
    say "Adding $1 to the Rust toolchain."
    rustup component add "$1"
}
