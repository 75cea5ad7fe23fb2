#!/usr/bin/env bash
# Installs what a build or the tests need from the system and what is missing of it:
#
#   scripts/deps.sh build     a C compiler for the bundled SQLite, Python with venv to fetch the model
#   scripts/deps.sh test      that, and RabbitMQ, Postgres and moto (for EC2 and S3) for the contract and end-to-end tests
#
# As root or with passwordless sudo it runs apt-get; otherwise it prints the command to run and fails.
# Servers that it installs are neither started nor enabled: tests and demo run servers of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly POLICY=/usr/sbin/policy-rc.d

say() { echo "deps: $*" >&2; }

has() { command -v "$1" >/dev/null 2>&1; }

has_rabbitmq() { [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] || has rabbitmq-server; }

has_postgres() {
    has initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || [[ -n ${STOKER_POSTGRES_BIN:-} ]]
}

# Debian's python3-venv brings the ensurepip that an environment with pip is made of.
has_python() { has python3 && python3 -c 'import venv, ensurepip' >/dev/null 2>&1; }

# Python is there to fetch the model; once that is done nothing else needs it.
has_model() { [[ -s .cache/models/all-minilm-l6-v2/model.safetensors ]]; }

has_pip() { has python3 && python3 -m pip --version >/dev/null 2>&1; }

missing() {
    has cc || echo gcc libc6-dev
    has_model || has_pip || has_python || echo python3 python3-venv
    [[ $1 == build ]] && return
    # moto lives in a virtual environment.
    has_python || echo python3 python3-venv
    has_rabbitmq || echo rabbitmq-server
    has_postgres || echo postgresql
    has openssl || echo openssl
}

check_cargo() {
    has cargo && return
    say "no cargo on PATH; install Rust from https://rustup.rs (stable, at least the version in Cargo.toml)"
    exit 1
}

as_root() {
    if [[ $(id -u) -eq 0 ]]; then "$@"; else sudo -n "$@"; fi
}

may_install() {
    has apt-get && { [[ $(id -u) -eq 0 ]] || { has sudo && sudo -n true 2>/dev/null; }; }
}

# Debian starts a service as soon as its package is unpacked, unless this file says no (exit 101).
forbid_service_start() {
    [[ ! -e $POLICY ]] || as_root mv "$POLICY" "$POLICY.stoker-saved"
    trap restore_service_start EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null
    as_root chmod 755 "$POLICY"
}

restore_service_start() {
    as_root rm -f "$POLICY"
    [[ ! -e $POLICY.stoker-saved ]] || as_root mv "$POLICY.stoker-saved" "$POLICY"
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "$@" </dev/null
}

# Packages enable their services for the next start of the machine; nobody asked for these.
disable_services() {
    as_root update-rc.d "$1" disable >/dev/null 2>&1 || true
    if has systemctl; then
        as_root systemctl disable "$@" >/dev/null 2>&1 || true
    fi
}

install_packages() {
    local erlang=()
    # An Erlang that was here before has its own users.
    has epmd || erlang+=(epmd.service epmd.socket)
    say "installing: $*"
    forbid_service_start
    # The package lists of a fresh machine are empty or old; update them only when that shows.
    apt_install "$@" || { as_root apt-get -q update && apt_install "$@"; }
    restore_service_start
    trap - EXIT
    [[ " $* " != *" rabbitmq-server "* ]] || disable_services rabbitmq-server "${erlang[@]}"
    [[ " $* " != *" postgresql "* ]] || disable_services postgresql
}

main() {
    local packages
    [[ ${1:-} == build || ${1:-} == test ]] || { sed -n '2,9s/^# \{0,1\}//p' scripts/deps.sh >&2; exit 2; }
    check_cargo
    read -ra packages <<<"$(missing "$1" | tr '\n' ' ')"
    if [[ ${#packages[@]} -gt 0 ]]; then
        packages_missing "${packages[@]}"
    fi
    [[ $1 == build ]] || scripts/moto.sh
}

# Installs packages, or says which and fails.
packages_missing() {
    if may_install; then
        install_packages "$@"
        return
    fi
    say "this machine lacks: $*"
    if has apt-get; then
        say "and they cannot be installed without a password. Run this, then try again:"
        say "    sudo apt-get update && sudo apt-get install $*"
        say "No service needs to run: 'sudo systemctl disable --now rabbitmq-server postgresql' is fine."
    else
        say "Those are Debian's names; install the same with this system's package manager, then try again."
    fi
    exit 1
}

main "$@"
