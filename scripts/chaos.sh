#!/usr/bin/env bash
# Runs the built chaos program with these arguments; see its usage.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$("${CARGO:-cargo}" metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
exec "$target/debug/stoker-chaos" "$@"
