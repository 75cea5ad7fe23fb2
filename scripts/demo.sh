#!/usr/bin/env bash
# Prepares the demo and hands over to `stoker demo`, which runs it:
#
#   scripts/demo.sh [embedded|rabbitmq]
#
# Builds the programs that it takes, fetches the model once, and for `rabbitmq` runs a private node that ends with the
# demo. Nothing is left behind but build results and the model. There are two acts: a worker is killed at work, and
# a fleet buys its machines and gives them back.
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
    -p stoker-cli -p stoker-coordinator -p stoker-worker -p stoker-engine -p stoker-engine-api -p stoker-autoscaler
target=$("$CARGO" metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')

acts() {
    printf '\nFirst act: a worker is killed.\n\n' >&2
    "$target/release/stoker" demo --fleet demo/fleet.toml \
        --corpus demo/corpus/austen.txt --queries demo/queries.txt "$@"
    printf '\nSecond act: machines that come and go.\n\n' >&2
    "$target/release/stoker" demo --autoscale --fleet demo/scaling.toml "$@"
}

if [[ $BROKER == embedded ]]; then
    acts --broker embedded
    exit
fi

node=$(mktemp -d)
trap 'scripts/rabbitmq-private.sh stop "$node"; rm -rf "$node"' EXIT
echo "demo: starting a private RabbitMQ node" >&2
uri=$(scripts/rabbitmq-private.sh start "$node")
# In the environment, because everybody can read a command line.
export STOKER_BROKER_URI=${uri#STOKER_BROKER_URI=}
acts
