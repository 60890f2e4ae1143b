# Sourced by the scripts: which programs they need, and how to install those that are missing.
# shellcheck shell=bash

# Every program that some script needs beyond a Debian base system, and the package of Debian and Ubuntu it is in.
# This is the only list of packages; scripts name programs.
package_of() {
    case $1 in
        cc) say build-essential ;;
        curl) say curl ;;
        postgres) say postgresql ;;
        rabbitmq-server | rabbitmqadmin) say rabbitmq-server ;;
        jq) say jq ;;
        shellcheck) say shellcheck ;;
        git) say git ;;
        wrk) say wrk ;;
        nginx) say nginx-light ;;
        nft) say nftables ;;
        node) say nodejs ;;
        npm) say npm ;;
        logrotate) say logrotate ;;
        timesyncd) say systemd-timesyncd ;;
        ruby) say ruby ;;
        python3-venv) say python3-venv ;;
        unshare) say util-linux ;;
        ip) say iproute2 ;;
        chromium) say chromium ;;
        prometheus | promtool) say prometheus ;;
        *) fail "no package is known for $1" ;;
    esac
}

# What each part of the gate needs.
# shellcheck disable=SC2034 # the scripts that source this file use them
{
    needs_gate=(cc postgres shellcheck git curl jq)
    needs_clients=(node npm python3-venv rabbitmqadmin prometheus curl jq)
    needs_docs=(node npm python3-venv chromium promtool curl)
    needs_vagrant=(ruby shellcheck)
    needs_rabbitmq=(rabbitmq-server)
}

# has PROGRAM: whether it is installed, perhaps outside PATH, as servers often are.
has() {
    case $1 in
        postgres) (find_postgres) 2>/dev/null ;;
        rabbitmq-server) [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] ;;
        # Another program that keeps the clock right, such as chrony, will do.
        timesyncd) compgen -G '/usr/lib/systemd/ntp-units.d/*.list' >/dev/null ;;
        python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
        # Debian 12 has 18.20; what package.json asks for works with that.
        node) node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 18 || (a == 18 && b >= 18) ? 0 : 1)' \
            2>/dev/null ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    esac
}

# need PROGRAM…: installs the packages of all missing programs at once, after saying so. Without the right to install
# packages, it fails with the command for root.
need() {
    local program packages=()
    for program in "$@"; do
        has "$program" || packages+=("$(package_of "$program")")
    done
    ((${#packages[@]} > 0)) || return 0
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
    command -v apt-get >/dev/null ||
        fail "missing: ${packages[*]} (their names in Debian); this system has no apt-get, please install them yourself"
    local become_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || fail "missing: ${packages[*]}
There is no sudo. As root, run this, and come back:
  apt-get update && apt-get install --no-install-recommends ${packages[*]}"
        become_root=(sudo)
    fi
    local services='; their services will not be started'
    if [[ ${KEEP_SERVICES-} == yes ]]; then services=''; fi
    say "Installing ${packages[*]} with apt-get$services."
    "${become_root[@]}" env KEEP_SERVICES="${KEEP_SERVICES-}" "$root/scripts/lib/install-packages.sh" "${packages[@]}" ||
        fail "apt-get could not install ${packages[*]}"
    for program in "$@"; do
        has "$program" || fail "$(package_of "$program") is installed, but $program is not found, or is too old"
    done
}

# need_cargo: the Rust toolchain of rust-toolchain.toml, installed by rustup. Where rustup cannot install it (offline,
# for example), its default toolchain is used.
need_cargo() {
    local default
    command -v cargo >/dev/null || PATH=$PATH:${HOME:-/root}/.cargo/bin
    command -v cargo >/dev/null || fail "there is no Rust toolchain; install one from https://rustup.rs and come back"
    ! (cd "$root" && cargo --version) >/dev/null 2>&1 || return 0
    default=$(cd / && rustup default 2>/dev/null) || fail "cargo --version fails; see what it says in $root"
    export RUSTUP_TOOLCHAIN=${default%% *}
    cargo --version >/dev/null || fail "the toolchain $RUSTUP_TOOLCHAIN does not work"
    say "The toolchain of rust-toolchain.toml cannot be installed; going on with $(rustc --version)."
}

# need_rust: cargo, and the linker that it calls.
need_rust() {
    need_cargo
    need cc
}

# need_component NAME: a part of the Rust toolchain that a minimal installation leaves out.
need_component() {
    cargo "${1/rustfmt/fmt}" --version >/dev/null 2>&1 && return 0
    command -v rustup >/dev/null || fail "this Rust toolchain has no $1, and there is no rustup to add it"
    say "Adding $1 to the Rust toolchain."
    rustup component add "$1"
}
