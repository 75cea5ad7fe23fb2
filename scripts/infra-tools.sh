#!/usr/bin/env bash
# Puts the tools of `make check-infra` into .cache/infra, once: the security scanner and the stand-in for Terraform's
# provider from PyPI, pinned in infra/check, and, where the system has none, promtool, prometheus, shellcheck, stunnel
# and cloud-init's schema out of Debian's packages, which are unpacked there and not installed. Terraform itself has to
# be installed by hand. What cannot be had is said, and the checks that need it are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TO=.cache/infra

say() { echo "infra-tools: $*" >&2; }

has() { command -v "$1" >/dev/null 2>&1; }

# An environment of the pinned packages of a list; made anew when the list changes.
environment() {
    local name=$1 list=infra/check/$2
    [[ -e $TO/$name/done ]] && cmp -s "$TO/$name/done" "$list" && return
    say "installing $(grep -v '^#' "$list" | tr '\n' ' ')"
    rm -rf "${TO:?}/$name"
    if python3 -m venv "$TO/$name" && "$TO/$name/bin/pip" install -q --disable-pip-version-check --retries 1 --timeout 30 -r "$list"; then
        cp "$list" "$TO/$name/done"
    else
        say "not there: $(grep -v '^#' "$list"); is there a network, and Python with venv?"
        rm -rf "${TO:?}/$name"
    fi
}

# Files of a Debian package, without installing it.
unpack() {
    local package=$1 needed=$2
    [[ ! -e $TO/debian/$needed ]] || return 0
    if ! has apt-get || ! has dpkg-deb; then
        say "not there: $package, which comes from Debian's packages"
        return 0
    fi
    say "unpacking $package"
    mkdir -p "$TO/debian" "$TO/download"
    (cd "$TO/download" && rm -f "${package}"_*.deb && apt-get -q download "$package" >/dev/null 2>&1) || true
    if compgen -G "$TO/download/${package}_*.deb" >/dev/null; then
        dpkg-deb -x "$TO/download/${package}"_*.deb "$TO/debian"
        rm -rf "$TO/download"
    else
        say "not there: $package could not be downloaded (try: apt-get update)"
    fi
}

mkdir -p "$TO"
environment scanner requirements.txt
environment provider requirements-provider.txt
has promtool || unpack prometheus usr/bin/promtool
has shellcheck || unpack shellcheck usr/bin/shellcheck
has stunnel4 || unpack stunnel4 usr/bin/stunnel4
unpack cloud-init usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json
has terraform || say "not there: terraform, https://developer.hashicorp.com/terraform/install"
