#!/usr/bin/env bash
# Measures this machine, then what runs on it, in one run:
#
#   scripts/bench.sh [NAME...]     default: all of them, in the order of `names` below
#
# What each measures is in benches/README.md. Results go to stdout and to .stoker/bench/NAME.json.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CARGO=${CARGO:-cargo} RESULTS=.stoker/bench MODEL=.cache/models/all-minilm-l6-v2
readonly names=(fsync-before raw-publish celery submit submit-postgres submit-postgres-2 end-to-end
    end-to-end-rabbitmq end-to-end-postgres end-to-end-postgres-2 queued recovery scaling switching sentence-transformers
    onnxruntime embedding eight-bits embedding-fleet generation fsync-after)
readonly vectors=$RESULTS/expected.f32

wanted=("$@")
[[ $# -gt 0 ]] || wanted=("${names[@]}")
for name in "${wanted[@]}"; do
    if [[ " ${names[*]} " != *" $name "* ]]; then
        echo "bench: there is no '$name'; there are: ${names[*]}" >&2
        exit 2
    fi
done

bench() { "$target/release/stoker-bench" "$@"; }

# The comparator of `embedding`; its packages are large, so they are installed only on purpose.
sentence_transformers() {
    local python=.cache/embedding/bin/python
    if [[ ! -x $python ]]; then
        echo "bench: SKIPPED, and with it the comparison of vectors; to install it:" \
            "python3 -m venv .cache/embedding &&" \
            ".cache/embedding/bin/pip install -r benches/embedding/requirements.txt" >&2
        return
    fi
    "$python" benches/embedding/sentence_transformers_bench.py --model "$MODEL" \
        --corpus demo/corpus/austen.txt --threads "$(nproc)" --out "$vectors"
}

# Its vectors are compared with those of `sentence-transformers`, which has the same environment.
onnxruntime() {
    local python=.cache/embedding/bin/python expect=()
    if [[ ! -x $python ]] || ! "$python" -c 'import onnxruntime' 2>/dev/null; then
        echo "bench: SKIPPED; benches/embedding/README.md says how to install it" >&2
        return
    fi
    [[ ! -s $vectors ]] || expect=(--expect "$vectors")
    "$python" benches/embedding/onnxruntime_bench.py --model "$MODEL" --corpus demo/corpus/austen.txt \
        --threads "$(nproc)" "${expect[@]}"
}

embedding() {
    local expect=()
    [[ ! -s $vectors ]] || expect=(--expect "$vectors")
    "$CARGO" run --quiet --release --locked -p stoker-engine --example embedding_bench -- \
        --dir "$MODEL" --corpus demo/corpus/austen.txt "${expect[@]}"
}

# SmolLM2-135M in two formats: one text at a time against llama.cpp with the same tokens, then eight at once. As with
# PyTorch, the comparator is there only where it was installed.
generation() {
    local python=.cache/generation/bin/python model=.cache/models/smollm2-135m-instruct tokens=64 format folder prompts
    scripts/fetch-model.sh --smollm2
    mapfile -t prompts < <(head -n 8 demo/corpus/austen.txt)
    for format in q8_0 q4_0; do
        folder=$TMPDIR/$format
        mkdir -p "$folder"
        "$CARGO" run --quiet --release --locked -p stoker-engine --example requantize -- \
            "$model"/*.gguf "$format" "$folder/model.gguf"
        "$CARGO" run --quiet --release --locked -p stoker-engine --example generation_bench -- \
            "$folder" "$tokens" "${prompts[*]}" >"$folder/one.json"
        "$CARGO" run --quiet --release --locked -p stoker-engine --example generation_bench -- \
            "$folder" "$tokens" "${prompts[@]}" >"$folder/eight.json"
        echo null >"$folder/llama.json"
        if [[ -x $python ]]; then
            "$python" benches/generation/llama_cpp_bench.py --model "$folder/model.gguf" \
                --prompt-tokens "$folder/one.json" --tokens "$tokens" --threads "$(nproc)" >"$folder/llama.json"
        else
            echo "bench: llama.cpp is SKIPPED; benches/generation/README.md says how to install it" >&2
        fi
        printf '{"format": "%s", "one": %s, "eight": %s, "llama_cpp": %s}\n' \
            "$format" "$(<"$folder/one.json")" "$(<"$folder/eight.json")" "$(<"$folder/llama.json")"
    done
}

measure() {
    case $1 in
    fsync-*) python3 benches/fsync.py "$broker" ;;
    raw-publish) bench raw-publish "$uri" ;;
    celery) benches/celery/run.sh "$uri" ;;
    submit) bench submit ;;
    submit-postgres) bench --store postgres submit ;;
    submit-postgres-2) bench --store postgres --coordinators 2 submit ;;
    end-to-end) bench end-to-end ;;
    end-to-end-rabbitmq) bench end-to-end "$uri" ;;
    end-to-end-postgres) bench --store postgres end-to-end "$uri" ;;
    end-to-end-postgres-2) bench --store postgres --coordinators 2 end-to-end "$uri" ;;
    queued) bench queued ;;
    recovery) bench recovery ;;
    scaling) bench scaling ;;
    switching) bench switching "$MODEL" demo/corpus/austen.txt ;;
    sentence-transformers) sentence_transformers ;;
    onnxruntime) onnxruntime ;;
    embedding) embedding ;;
    eight-bits) RAYON_NUM_THREADS=1 CANDLE_NUM_THREADS=1 "$CARGO" run --quiet --release --locked -p stoker-engine --example eight_bits ;;
    embedding-fleet) bench embedding "$MODEL" demo/corpus/austen.txt ;;
    generation) generation ;;
    esac
}

scripts/deps.sh test
scripts/fetch-model.sh
# The programs without what tests have built into them, then what measures them.
"$CARGO" build --release --locked -p stoker-cli -p stoker-coordinator -p stoker-worker -p stoker-engine-api -p stoker-engine -p stoker-autoscaler
"$CARGO" build --release --locked -p stoker-tests --bins
target=$("$CARGO" metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
# What is measured must wait for a disk, and /tmp may be memory.
mkdir -p "$RESULTS/tmp"
TMPDIR=$(cd "$RESULTS/tmp" && pwd)
export TMPDIR
broker=$(mktemp -d)
trap 'scripts/rabbitmq-private.sh stop "$broker"; rm -rf "$broker"' EXIT
uri=$(scripts/rabbitmq-private.sh start "$broker")
uri=${uri#STOKER_BROKER_URI=}

for name in "${wanted[@]}"; do
    echo "bench: $name" >&2
    measure "$name" | tee "$TMPDIR/$name.json"
    # What was skipped leaves an earlier result alone.
    [[ ! -s $TMPDIR/$name.json ]] || mv "$TMPDIR/$name.json" "$RESULTS/$name.json"
done
