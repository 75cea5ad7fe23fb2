#!/usr/bin/env bash
# Every check that needs no running code. Clippy comes before rustdoc because they share their
# compiled dependencies. Tools that Rust does not bring are used where they are installed; the policy of
# deny.toml on who may depend on what is also tested by tests/tests/architecture, which always runs.
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO=${CARGO:-cargo}
# Where scripts/infra-tools.sh puts shellcheck.
export PATH="$PATH:$PWD/.cache/infra/debian/usr/bin"

step() {
    echo "lint: $*" >&2
    "$@"
}

optional() {
    local tool=$1 remedy=$2
    shift 2
    if command -v "$tool" >/dev/null 2>&1; then
        step "$@"
    else
        echo "lint: skipped '$*': $tool is not installed ($remedy)" >&2
    fi
}

for script in scripts/*.sh benches/*/*.sh .ci/run infra/bin/* infra/image/provision.sh infra/check/*.sh; do
    bash -n "$script"
done
step "$CARGO" fmt --all --check
readonly FEATURES=stoker-autoscaler/contract,stoker-autoscaler/ec2
step "$CARGO" clippy --workspace --all-targets --features "$FEATURES" --locked -- -D warnings
# With examples, which have what only tests depend on: without it the dependencies would have other features, and be compiled again.
RUSTDOCFLAGS="-D warnings" step "$CARGO" doc --workspace --no-deps --lib --bin stoker --examples --features "$FEATURES" --locked
# Advisories are left to `make deny`: they change by the day, and fetching them needs a network.
optional cargo-deny "make deny installs it" "$CARGO" deny --locked --offline check bans licenses sources
optional shellcheck "https://www.shellcheck.net" shellcheck scripts/*.sh benches/*/*.sh .ci/run
optional typos "cargo install typos-cli" typos
