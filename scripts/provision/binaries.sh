# Sourced by build-dist.sh and by the scripts that provision a virtual machine: the binaries, from dist to /usr/local.
#
# dist holds a folder for each kind of processor. If it lacks a machine's binaries, as on a host without Linux, the
# machine builds them: for all machines if they share the project's folder with the host (VirtualBox), else only for
# itself.
# shellcheck shell=bash

binaries=(api-gateway inventory-app billing-app broker)
read_services
binaries+=("${service_names[@]/%/-app}")
dist=$root/dist/$(uname -m)

# install_binary NAME: installs it into /usr/local/bin, and keeps the one before as NAME.previous. Sets changed to yes if
# it differs from the old one.
install_binary() {
    local name=$1
    usable "$name" || build_here "$name"
    if ! cmp -s -- "$dist/$name" "/usr/local/bin/$name"; then
        install -m 755 -- "$dist/$name" "/usr/local/bin/$name.new"
        [[ ! -e /usr/local/bin/$name ]] || ln -f -- "/usr/local/bin/$name" "/usr/local/bin/$name.previous"
        # The old one may be running; it keeps its file until it ends.
        mv -f -- "/usr/local/bin/$name.new" "/usr/local/bin/$name"
        say "Installed $name."
        # shellcheck disable=SC2034 # the caller reads it
        changed=yes
    fi
    is_fresh || say "The sources have changed since $dist was built; scripts/build-dist.sh on a Linux host builds it" \
        "anew, and elsewhere: remove the folder dist. Then vagrant rsync and vagrant provision."
}

# usable NAME: whether dist has it and it runs on this system, which may be older than the one it was built on.
usable() { [[ -x $dist/$1 ]] && "$dist/$1" --version >/dev/null 2>&1; }

# sources_sum: one number for everything that the binaries are built from.
sources_sum() {
    local places=(Cargo.toml Cargo.lock sql crates gateway inventory billing broker examples services)
    # There may be no services.
    (cd "$root" && { find "${places[@]}" -type f -print0 2>/dev/null || true; } |
        LC_ALL=C sort -z | xargs -0 cat | sha256sum | cut -d' ' -f1)
}

is_fresh() {
    [[ -r $dist/SOURCES ]] || return 0
    : "${current_sum:=$(sources_sum)}"
    [[ $(<"$dist/SOURCES") == "$current_sum" ]]
}

# build_here NAME: builds the missing binary in this virtual machine. With one job at a time, no optimisation across
# crates, and swap, half a GiB of memory is enough.
build_here() {
    local wanted=("$1") target=/var/cache/crud-master/target
    mkdir -p -- "$dist"
    if mountpoint -q -- "$root"; then
        wanted=("${binaries[@]}")
        # Another machine may be building already.
        exec 9>"$dist/.lock"
        flock -w 10800 9 || true
        usable "$1" && return 0
    fi
    say "There is no $1 for this machine in $dist. Building ${wanted[*]} here; this takes a while, the first time."
    make_swap /swapfile-build 2048
    install_rust
    (cd "$root" && CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo build --release --locked --jobs 1 --target-dir "$target" "${wanted[@]/#/--bin=}") || fail "the build failed"
    put_binaries "$target/release" "${wanted[@]}"
    swapoff /swapfile-build
    rm -f -- /swapfile-build
    sed -i '\:^/swapfile-build :d' /etc/fstab
    exec 9>&-
    usable "$1" || fail "$1 was built, but does not run"
}

# put_binaries FOLDER NAME…: copies them into dist.
put_binaries() {
    local folder=$1 name
    shift
    mkdir -p -- "$dist"
    for name in "$@"; do
        install -m 755 -- "$folder/$name" "$dist/$name.new"
        mv -f -- "$dist/$name.new" "$dist/$name"
    done
    sources_sum >"$dist/SOURCES"
}

# install_rust: the toolchain from rustup, because Debian 12 has an older one than the workspace needs.
install_rust() {
    export RUSTUP_HOME=/opt/rust CARGO_HOME=/opt/rust PATH=$PATH:/opt/rust/bin
    if ! command -v cargo >/dev/null; then
        need curl
        say "Installing Rust with rustup."
        # One thread, and little memory for unpacking.
        curl -fsS --proto '=https' --tlsv1.2 --retry 3 https://sh.rustup.rs |
            RUSTUP_IO_THREADS=1 RUSTUP_UNPACK_RAM=67108864 sh -s -- -y -q --profile minimal --no-modify-path ||
            fail "rustup did not work; is there a connection to the internet?"
    fi
    need_rust
}
