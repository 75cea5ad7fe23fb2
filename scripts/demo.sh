#!/usr/bin/env bash
# Prepares the demo and hands over to `stoker demo`, which runs it:
#
#   scripts/demo.sh [embedded|rabbitmq]
#
# Builds the four programs that it takes, fetches the model once, and for `rabbitmq` runs a private node that
# ends with the demo. Nothing is left behind but build results and the model.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CARGO=${CARGO:-cargo} BROKER=${1:-embedded}

case $BROKER in
embedded) scripts/deps.sh build ;;
rabbitmq) scripts/deps.sh test ;;
*)
    echo "demo: BROKER is '$BROKER'; it can be 'embedded' or 'rabbitmq'" >&2
    exit 2
    ;;
esac

scripts/fetch-model.sh
"$CARGO" build --release --locked \
    -p stoker-cli -p stoker-coordinator -p stoker-worker -p stoker-engine
target=$("$CARGO" metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')

demo=("$target/release/stoker" demo --fleet demo/fleet.toml
    --corpus demo/corpus/austen.txt --queries demo/queries.txt)

if [[ $BROKER == embedded ]]; then
    exec "${demo[@]}" --broker embedded
fi

node=$(mktemp -d)
trap 'scripts/rabbitmq-private.sh stop "$node"; rm -rf "$node"' EXIT
echo "demo: starting a private RabbitMQ node" >&2
uri=$(scripts/rabbitmq-private.sh start "$node")
# In the environment, because everybody can read a command line.
STOKER_BROKER_URI=${uri#STOKER_BROKER_URI=} "${demo[@]}"
