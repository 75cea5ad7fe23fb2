#!/usr/bin/env bash
# Installs moto, a server that acts like Amazon's interfaces, for the tests of EC2 and S3:
#
#   scripts/moto.sh        into .cache/moto, once for each state of scripts/moto-requirements.txt
#
# It is installed whole or not at all. pip's own settings (an index, a proxy, PIP_FIND_LINKS) are honored.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly FOLDER=.cache/moto REQUIREMENTS=scripts/moto-requirements.txt
# Says for which requirements the folder is complete.
readonly MARK=$FOLDER/requirements.sha256

say() { echo "moto: $*" >&2; }

wanted=$(sha256sum <"$REQUIREMENTS")
[[ -s $MARK && $(<"$MARK") == "$wanted" ]] && exit 0

command -v python3 >/dev/null ||
    { say "no python3 on PATH; install Python 3.10 or newer (Debian: apt-get install python3 python3-venv)"; exit 1; }
say "installing moto into $FOLDER (140 MB)"
rm -rf "$FOLDER"
python3 -m venv "$FOLDER" ||
    { say "python3 cannot make a virtual environment (Debian: apt-get install python3-venv)"; exit 1; }
# The list is complete: without its optional parts moto is half as large.
"$FOLDER/bin/python3" -m pip install --quiet --disable-pip-version-check --no-input --retries 2 \
    --only-binary :all: --no-deps -r "$REQUIREMENTS" >&2 ||
    { say "pip could not install it (its message is above). The tests of EC2 and S3 fail without it."; exit 1; }
echo "$wanted" >"$MARK"
