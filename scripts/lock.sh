#!/usr/bin/env bash
# Resolve the locks from pyproject.toml: for every platform, with versions and hashes, naming no host.
# requirements-spark-3.5.lock is requirements.lock with the newest Spark 3.5, and so is each lock of that kind.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly bin=${VENV:-.venv}/bin
uv_options=()
eval "$($bin/python scripts/uv_environment.py)"

# compile LOCK OPTION...: what stands in LOCK stays, unless it must change or an option says so.
compile() {
    local lock=$1
    shift
    $bin/uv pip compile "$@" ${uv_options[@]+"${uv_options[@]}"} pyproject.toml --extra dev --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --output-file "$lock"
}

compile requirements.lock "$@"
for lock in requirements-spark-*.lock; do
    spark=${lock#requirements-spark-}
    cp requirements.lock "$lock"
    compile "$lock" --constraint <(echo "pyspark==${spark%.lock}.*")
done
