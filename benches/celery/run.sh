#!/usr/bin/env bash
# Measures Celery on an AMQP broker, in a virtual environment of its own with pinned packages:
#
#   benches/celery/run.sh amqp://user:password@host:port/%2f [options of publish.py]
#
# The environment is made once, in .cache/celery. Prints JSON.
set -euo pipefail
cd "$(dirname "$0")/../.."

[[ $# -ge 1 ]] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }

venv=.cache/celery
wanted=$(sha256sum <benches/celery/requirements.txt)
if [[ "$(cat "$venv/made-from" 2>/dev/null)" != "$wanted" ]]; then
    echo "celery: making $venv" >&2
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r benches/celery/requirements.txt >&2
    echo "$wanted" >"$venv/made-from"
fi
exec "$venv/bin/python" benches/celery/publish.py "$@"
