#!/usr/bin/env bash
# Runs the checks that need an NVIDIA GPU: equality with the CPU, memory, lack of memory, speed, cold start.
# Without a GPU it says that it skips them, and why; with STOKER_REQUIRE_GPU=1 that is a failure.
#
# STOKER_TEST_GPU_BINARY names a test program that was built elsewhere, with STOKER_TEST_ENGINE,
# STOKER_TEST_MODEL_DIR and STOKER_TEST_CORPUS beside it; then nothing is built here.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CARGO=${CARGO:-cargo}

skip() {
    if [[ ${STOKER_REQUIRE_GPU:-} == 1 ]]; then
        echo "test-gpu: FAILED: a GPU is required (STOKER_REQUIRE_GPU=1), but $*" >&2
        exit 1
    fi
    echo "test-gpu: SKIPPED, nothing was tested: $*" >&2
    exit 0
}

command -v nvidia-smi >/dev/null || skip "there is no nvidia-smi: NVIDIA's driver is not installed"
gpus=$(nvidia-smi -L 2>&1) || skip "nvidia-smi fails: $gpus"
[[ $gpus == *GPU* ]] || skip "nvidia-smi lists no GPU"
nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader >&2

# They measure the device's memory, so they take turns.
arguments=(--test-threads=1 --nocapture)
if [[ -n ${STOKER_TEST_GPU_BINARY:-} ]]; then
    exec "$STOKER_TEST_GPU_BINARY" "${arguments[@]}"
fi
# What the worker reads of the GPU.
"$CARGO" test --locked -p stoker-worker --lib gpu -- --include-ignored "${arguments[@]}"
scripts/fetch-model.sh
environment=$(scripts/cuda-toolkit.sh)
eval "$environment"
# The driver's own library must win over the stub that is linked with.
export LD_LIBRARY_PATH=$STOKER_CUDA_LIBRARIES${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/cuda
"$CARGO" build --release --locked -p stoker-engine --features cuda
exec "$CARGO" test --release --locked -p stoker-engine --features cuda --test gpu -- "${arguments[@]}"
