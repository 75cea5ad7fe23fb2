#!/usr/bin/env bash
# Starts a fleet and a real Prometheus on this machine, and loads every query of infra/observability. The programs are
# those that Cargo has built, or those of the folder PROGRAMS; Prometheus is the system's, or what
# scripts/infra-tools.sh has unpacked.
set -euo pipefail
cd "$(dirname "$0")/.."

export PATH="$PATH:$PWD/.cache/infra/debian/usr/bin"
if ! command -v prometheus >/dev/null; then
    echo 'check-dashboards: SKIPPED: there is no prometheus (scripts/infra-tools.sh unpacks one)' >&2
    [[ ${STOKER_REQUIRE_INFRA:-} != 1 ]] || exit 1
    exit 0
fi
exec python3 infra/check/dashboards.py "${PROGRAMS:-${CARGO_TARGET_DIR:-target}/debug}"
