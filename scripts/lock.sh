#!/usr/bin/env bash
# Resolve requirements.lock from pyproject.toml: for every platform, with versions and hashes, naming no host.
set -euo pipefail
cd "$(dirname "$0")/.."

uv_options=()
eval "$(.venv/bin/python scripts/uv_environment.py)"
.venv/bin/uv pip compile "$@" ${uv_options[@]+"${uv_options[@]}"} pyproject.toml --extra dev --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock
