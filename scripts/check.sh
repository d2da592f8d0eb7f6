#!/usr/bin/env bash
# Run the groups of checks that are named (lint, tests, laws, cluster), all of them whatever fails, and sum up at the end.
set -uo pipefail
cd "$(dirname "$0")/.."

readonly venv=${VENV:-.venv}
readonly bin=$venv/bin
JAVA_HOME=$(cat $venv/.java-home)
export JAVA_HOME
summary=()
failures=0

check() {
    local name=$1 start=$SECONDS verdict=passed
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" || { verdict=FAILED; failures=$((failures + 1)); }
    summary+=("$(printf '%-8s %-14s %4d s' "$verdict" "$name" $((SECONDS - start)))")
}

for group in "$@"; do
    case $group in
        lint)
            check format $bin/ruff format --check .
            check lint $bin/ruff check .
            check types $bin/mypy --strict src
            check imports $bin/lint-imports --no-cache
            ;;
        # Four processes, since they wait a lot; in the order of the folders, so that the files that take long do not come last.
        tests) check tests $bin/python -m pytest tests -m "not laws" -n 4 --dist loadfile --no-loadscope-reorder --durations 15 ;;
        laws) check laws $bin/python -m pytest tests -m laws -n 3 --dist loadfile --no-loadscope-reorder --durations 15 ;;
        cluster) check cluster $bin/python -m pytest tests/cluster ;;
        *) echo "check.sh: there is no group '$group'; there are lint, tests, laws, cluster" >&2; exit 2 ;;
    esac
done

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
[ "$failures" -eq 0 ]
