#!/usr/bin/env bash
# Build the environment VENV (.venv) from the committed LOCK (requirements.lock), and see to a Java that its Spark takes.
# Needs Python 3.11+ with venv, and nothing else; PYTHON=... names one. Does nothing, at once, when nothing has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly venv=${VENV:-.venv}
readonly lock=${LOCK:-requirements.lock}
readonly python=$venv/bin/python
readonly stamp=$venv/.setup-stamp
readonly java_home_file=$venv/.java-home
readonly needs_venv="on Debian and Ubuntu: apt-get install python3-venv"

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

# What the environment depends on. A moved one does not work, so the place is part of it.
wanted_stamp() { pwd; cat $lock pyproject.toml scripts/setup.sh; }

is_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
        if is_python "$candidate"; then echo "$candidate"; return; fi
    done
    fail "Python 3.11 or later is needed and ${PYTHON:-python3} is not one; install it, or name it with PYTHON=/path/to/python"
}

make_venv() {
    if is_python $python && $python -m pip --version >/dev/null 2>&1; then return; fi
    if is_python $python && $python -m ensurepip >/dev/null 2>&1; then return; fi
    local base
    base=$(find_python)
    say "making $venv with $($base --version)"
    "$base" -m venv --clear $venv >&2 || fail "'$base -m venv' failed; $needs_venv"
}

# Requirements with their hashes, as they stand in the lock.
locked() { awk -v names="$*" 'BEGIN { split(names, n, " "); for (i in n) want[n[i]] } /^[^ ]/ { split($1, p, "=="); on = (p[1] in want) } on' $lock; }

# uv, and setuptools, with which the packages that are not wheels are built: nothing but what the lock names is run.
install_tools() {
    say "installing uv"
    locked uv setuptools >$venv/tools.lock
    $python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $venv/tools.lock
}

install_packages() {
    local uv_options=()
    eval "$($python scripts/uv_environment.py)"
    export VIRTUAL_ENV=$PWD/$venv
    say "installing what $lock names"
    # Compiled now and once: where PYTHONDONTWRITEBYTECODE is set, every process would compile torch anew.
    $venv/bin/uv pip sync ${uv_options[@]+"${uv_options[@]}"} --no-build-isolation --require-hashes --compile-bytecode $lock
    $venv/bin/uv pip install --quiet --no-deps --no-build-isolation --editable .
}

set_up_python() {
    if cmp -s <(wanted_stamp) $stamp; then return; fi
    rm -f $stamp $java_home_file
    make_venv
    install_tools
    install_packages
    wanted_stamp >$stamp
}

find_java() { $python -m sunspark.launch.java >$java_home_file; }

install_java() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return; fi
    say "installing Java"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 || say "apt-get update failed; trying with the package lists that are there"
    local version
    for version in $($python -m sunspark.launch.java versions); do
        if apt-get install -y -qq --no-install-recommends "openjdk-$version-jre-headless" >&2; then return; fi
    done
}

# find_java says in one sentence what to install where nothing helped.
set_up_java() {
    if [ -s $java_home_file ] && [ -x "$(cat $java_home_file)/bin/java" ]; then return; fi
    find_java 2>/dev/null || install_java
    find_java || exit 2
}

# Which lock it is, the Makefile tells from SPARK.
if [ ! -f $lock ]; then
    others=(requirements-spark-*.lock)
    others=("${others[@]#requirements-spark-}")
    fail "there is no $lock; leave SPARK out, or let it be one of: ${others[*]%.lock}"
fi
set_up_python
set_up_java
spark=$(awk -F '==' '/^pyspark==/ { split($2, version, " "); print version[1] }' $lock)
say "$venv is ready: $($python --version), Spark $spark, Java in $(cat $java_home_file); the command is $venv/bin/sunspark"
