#!/bin/sh
# Make a virtual environment: venv.sh PYTHON DIRECTORY. Debian keeps a part of the venv module in a package of its own.
set -eu

if "$1" -c 'import ensurepip' >/dev/null 2>&1; then
    exec "$1" -m venv "$2"
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >&2
    exec "$1" -m venv "$2"
fi
echo "$1 has no ensurepip; install Debian's python3-venv" >&2
exit 1
