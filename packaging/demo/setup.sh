#!/bin/sh
# Makes a virtual environment with uvicorn in the folder $1, unless it is there already.
set -eu
venv=$1
if "$venv/bin/python" -c 'import uvicorn' 2>/dev/null; then
    echo "uvicorn is there already"
    exit 0
fi
python3 -m venv "$venv"
exec "$venv/bin/pip" install --quiet --disable-pip-version-check uvicorn
