#!/usr/bin/env bash
# Checks every crate by itself. Built together, crates share the features that any of them turns on, so
# one may compile only thanks to another; a crate that uses it alone would find out.
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO=${CARGO:-cargo}

packages() {
    "$CARGO" tree --workspace --depth 0 --prefix none --format '{p}' --locked | cut -d ' ' -f 1 | sort -u
}

for package in $(packages); do
    [[ $package == stoker-* ]] || continue
    echo "each-alone: $package" >&2
    "$CARGO" check --package "$package" --all-targets --locked --quiet
done
