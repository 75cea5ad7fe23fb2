#!/usr/bin/env bash
# Builds the engine for NVIDIA GPUs on a machine that has none, and sees that it says so: it compiles and
# links the CUDA build, starts it against a stub of the driver and expects a refusal that a person can act
# on, and runs it on the CPU.
#
# The compiler comes from scripts/cuda-toolkit.sh. Kernels are built for CUDA_COMPUTE_CAP, 90 by default. It is built beside
# what scripts/test.sh builds, with the same features: what does not know of CUDA is compiled once for both.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CARGO=${CARGO:-cargo} MODEL=.cache/models/all-minilm-l6-v2
readonly cuda=${STOKER_CUDA_FEATURES:-cuda}
readonly FEATURES=stoker-autoscaler/contract,stoker-autoscaler/ec2,stoker-engine/${cuda//,/,stoker-engine/}
readonly target=${CARGO_TARGET_DIR:-target}
readonly built=$target/debug/stoker-engine

say() { echo "check-cuda: $*" >&2; }

fail() {
    say "FAILED: $*"
    exit 1
}

# What the engine answers on its output, which is binary with readable text in it; how it ends does not count.
start_engine() {
    "$engine" --task text-embedding --model check --dir "$MODEL" "$@" </dev/null 2>"$work/log" |
        tr -c '[:print:]\n' '\n' || true
}

expect() {
    local text=$1 wanted
    shift
    for wanted in "$@"; do
        [[ $text == *"$wanted"* ]] || fail "expected '$wanted' in: $text; its log: $(cat "$work/log")"
    done
}

environment=$(scripts/cuda-toolkit.sh)
eval "$environment"
say "building for compute capability $CUDA_COMPUTE_CAP with $("$NVCC" --version | tail -n 1)"
mkdir -p "$target"
# On the same disk: what is moved is renamed, never half there.
work=$(mktemp -d "$target/check-cuda-XXXXXX")
# The engine for CPUs has the same name, and keeps its place.
clean_up() {
    [[ ! -e $work/for-cpus ]] || mv -f "$work/for-cpus" "$built"
    rm -rf "$work"
}
trap clean_up EXIT
if [[ -e $built ]]; then
    cp -p "$built" "$work/copy"
    mv "$work/copy" "$work/for-cpus"
fi
"$CARGO" build --locked --workspace --features "$FEATURES" --bin stoker-engine --test gpu
engine=$work/stoker-engine
mv "$built" "$engine"
[[ ! -e $work/for-cpus ]] || mv "$work/for-cpus" "$built"

# Without any driver the loader ends it; the worker explains that (worker/src/supervisor/exit.rs).
if [[ $(ldconfig -p) != *libcuda.so.1* ]]; then
    LD_LIBRARY_PATH=$STOKER_CUDA_LIBRARIES start_engine --device cuda:0 >/dev/null
    expect "$(cat "$work/log")" "error while loading shared libraries: libcuda.so.1"
    say "without a driver: the loader names libcuda.so.1"
fi

export LD_LIBRARY_PATH=$STOKER_CUDA_STUB:$STOKER_CUDA_LIBRARIES
expect "$(start_engine --device cuda:0)" "device cuda:0" CUDA_ERROR_STUB_LIBRARY "install NVIDIA's driver"
say "with the stub: it refuses, and says what to do"
scripts/fetch-model.sh
answer=$(start_engine --device cpu)
expect "$answer" check cpu
[[ $answer != *"device cuda"* ]] || fail "it should run on the CPU: $answer"
say "with the stub, on the CPU: it loads the model"
say "passed"
