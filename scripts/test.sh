#!/usr/bin/env bash
# Runs every test. The end-to-end tests start Stoker's own programs, which are therefore built first; the
# same tests pass under cargo-nextest, used where it is installed, and under plain `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO=${CARGO:-cargo}

# EC2's SDK is left out of every build but this and that of the lints.
readonly FEATURES=stoker-autoscaler/contract,stoker-autoscaler/ec2

# All targets: with the features that the tests ask for, so that nothing is compiled twice.
"$CARGO" build --workspace --all-targets --features "$FEATURES" --locked
if command -v cargo-nextest >/dev/null 2>&1; then
    # nextest runs no documentation tests; they go first so that its summary ends the output.
    "$CARGO" test --workspace --doc --features "$FEATURES" --locked
    # Most of the longer tests wait for a process most of their time.
    exec "$CARGO" nextest run --workspace --features "$FEATURES" --locked --test-threads "$(($(nproc) + 2))"
fi
exec "$CARGO" test --workspace --features "$FEATURES" --locked --no-fail-fast
