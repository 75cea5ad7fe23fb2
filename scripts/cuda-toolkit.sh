#!/usr/bin/env bash
# Prints the environment in which an engine for NVIDIA GPUs can be built, as lines for `eval`:
#
#   eval "$(scripts/cuda-toolkit.sh)"
#
# A toolkit that is installed (nvcc on the PATH or in /usr/local/cuda) is used, with its own driver stub.
# Otherwise the compiler and the libraries to link with come from Python packages into .cache/cuda, pinned
# to one version of CUDA, and a stub of the driver is made beside them: no GPU, driver or root is needed.
# CUDA_COMPUTE_CAP says which GPUs to build for; without one it is the GPU of this machine, or 90.
set -euo pipefail
cd "$(dirname "$0")/.."

# Newer ones exist; candle's bindings know CUDA up to 13.4.
readonly PACKAGES=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cublas==13.1.2.11
    nvidia-curand==10.4.0.35 nvidia-cuda-nvrtc==13.0.88)
readonly LIBRARIES=(cudart cublas cublasLt curand nvrtc)
readonly CACHE=.cache/cuda

say() { echo "cuda: $*" >&2; }

die() {
    say "$@"
    exit 1
}

# The folder of the packages' files, below a virtual environment.
toolkit_in() { echo "$1"/lib/python3*/site-packages/nvidia/cu13; }

install_packages() {
    local work=$1
    say "installing the CUDA compiler from packages (400 MB to download, 1.2 GB on disk)"
    python3 -m venv "$work/venv" 2>/dev/null ||
        die "python3 has no venv; install it (Debian: apt-get install python3-venv)"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-input --only-binary :all: \
        "${PACKAGES[@]}" >&2 || die "pip could not install the packages (its message is above)"
}

# The packages have no names without a version to link by.
link_libraries() {
    local toolkit=$1 lib=$2 name
    for name in "${LIBRARIES[@]}"; do
        ln -s "$(realpath --relative-to "$lib" "$toolkit"/lib/lib"$name".so.*[0-9])" "$lib/lib$name.so"
    done
}

# Every function of the driver, answering CUDA_ERROR_STUB_LIBRARY, as NVIDIA's own stub does.
make_stub() {
    local header=$1 lib=$2
    grep -oE '\bcu[A-Z][A-Za-z0-9_]+' "$header" | sort -u | sed 's/.*/int &(void) { return 34; }/' >"$lib/stub.c"
    cc -w -O1 -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$lib/libcuda.so" "$lib/stub.c"
    ln -s libcuda.so "$lib/libcuda.so.1"
}

from_packages() {
    local stamp work toolkit
    stamp=$(printf '%s\n' "${PACKAGES[@]}" | sha256sum | cut -c 1-16)
    if [[ ! -e $CACHE/$stamp ]]; then
        mkdir -p "$(dirname "$CACHE")"
        # Beside its place, so that it appears whole or not at all.
        work=$(mktemp -d "$CACHE.XXXXXX")
        # shellcheck disable=SC2064 # the folder of now is meant
        trap "rm -rf '$work'" EXIT
        install_packages "$work"
        toolkit=$(toolkit_in "$work/venv")
        mkdir "$work/lib"
        link_libraries "$toolkit" "$work/lib"
        make_stub "$toolkit/include/cuda.h" "$work/lib"
        touch "$work/$stamp"
        rm -rf "$CACHE"
        mv --no-target-directory "$work" "$CACHE"
        trap - EXIT
    fi
    toolkit=$PWD/$(toolkit_in "$CACHE/venv")
    print_environment "$toolkit" "$PWD/$CACHE" "$PWD/$CACHE/lib:$toolkit/lib" "$PWD/$CACHE/lib"
}

installed() {
    local nvcc
    nvcc=$(command -v nvcc || true)
    [[ -n $nvcc ]] || nvcc=/usr/local/cuda/bin/nvcc
    [[ -x $nvcc ]] && dirname "$(dirname "$(realpath "$nvcc")")"
}

capability() {
    local found=${CUDA_COMPUTE_CAP:-}
    if [[ -z $found ]] && command -v nvidia-smi >/dev/null; then
        found=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
    fi
    [[ $found =~ ^[0-9]+$ ]] || found=90
    echo "$found"
}

# cudarc searches both folders, and cudaforge reads NVCC and compiles on half of the cores unless told.
print_environment() {
    local toolkit=$1 root=$2 link=$3 stub=$4
    printf 'export %s=%q\n' CUDA_HOME "$toolkit" CUDA_ROOT "$root" NVCC "$toolkit/bin/nvcc" \
        CUDA_COMPUTE_CAP "$(capability)" CUDAFORGE_THREADS "${CUDAFORGE_THREADS:-$(nproc)}" LIBRARY_PATH "$link${LIBRARY_PATH:+:$LIBRARY_PATH}" \
        STOKER_CUDA_LIBRARIES "$toolkit/lib:$toolkit/lib64" STOKER_CUDA_STUB "$stub"
    # shellcheck disable=SC2016 # the PATH of whoever evaluates it is meant
    printf 'export PATH=%q:$PATH\n' "$toolkit/bin"
}

main() {
    local toolkit
    if [[ -z ${STOKER_CUDA_FROM_PACKAGES:-} ]] && toolkit=$(installed); then
        print_environment "$toolkit" "$toolkit" "$toolkit/lib64:$toolkit/lib64/stubs" "$toolkit/lib64/stubs"
    else
        from_packages
    fi
}

main "$@"
