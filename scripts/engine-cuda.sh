#!/usr/bin/env bash
# Builds the engine for one generation of NVIDIA GPUs, optimized, and puts it where a worker looks for it:
#
#   CUDA_COMPUTE_CAP=90 scripts/engine-cuda.sh     target/release/stoker-engine-cuda90, for H100 and H200
#
# Without CUDA_COMPUTE_CAP it is for the GPU of this machine. The compiler comes from scripts/cuda-toolkit.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CARGO=${CARGO:-cargo} target=${CARGO_TARGET_DIR:-target}

environment=$(scripts/cuda-toolkit.sh)
eval "$environment"
CARGO_TARGET_DIR=$target/cuda "$CARGO" build --release --locked -p stoker-engine \
    --features "${STOKER_CUDA_FEATURES:-cuda}"
mkdir -p "$target/release"
install -m 755 "$target/cuda/release/stoker-engine" "$target/release/stoker-engine-cuda$CUDA_COMPUTE_CAP"
echo "engine-cuda: $target/release/stoker-engine-cuda$CUDA_COMPUTE_CAP" >&2
