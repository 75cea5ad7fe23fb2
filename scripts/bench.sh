#!/usr/bin/env bash
# Measures this machine, then what runs on it, in one run: see benches/README.md. Results go to stdout and to
# .stoker/bench/*.json.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly RESULTS=.stoker/bench

scripts/deps.sh test
broker=$(mktemp -d)
trap 'scripts/rabbitmq-private.sh stop "$broker"; rm -rf "$broker"' EXIT
uri=$(scripts/rabbitmq-private.sh start "$broker")
uri=${uri#STOKER_BROKER_URI=}

mkdir -p "$RESULTS"
record() {
    local name=$1
    shift
    echo "bench: $name" >&2
    "$@" | tee "$RESULTS/$name.json"
}

record fsync-before python3 benches/fsync.py "$broker"
record celery benches/celery/run.sh "$uri"
record fsync-after python3 benches/fsync.py "$broker"
