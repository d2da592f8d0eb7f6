# make setup | test | test-laws | test-cluster | chaos | environment | docs | lint | format | demo [DATA=/path/to/images] | lock | clean
# SPARK=3.5 does any of it in the environment of that Spark.

SHELL := /bin/bash
.DELETE_ON_ERROR:

# Each Spark has an environment and a lock of its own; the scripts take their names from here.
SUFFIX := $(if $(SPARK),-spark-$(SPARK))
export VENV := .venv$(SUFFIX)
export LOCK := requirements$(SUFFIX).lock
BIN := $(VENV)/bin

.PHONY: help setup test test-laws test-cluster chaos environment docs lint format demo lock clean

help:
	@echo "make setup       build .venv from requirements.lock and see to Java"
	@echo "make demo        sample scenes -> dataset -> training on Spark with 2 workers -> report, in ./demo"
	@echo "                 DATA=/path/to/images takes your own images"
	@echo "make test        format, lint, types, import rules, all tests but the long laws"
	@echo "make test-laws   the whole matrix of kill and resume laws (up to 45 minutes)"
	@echo "make test-cluster  the laws about hosts and links, on network namespaces (root; up to 20 minutes)"
	@echo "make chaos       kill, stop, fill and unplug at random while a run trains; MINUTES=10 SEED=..."
	@echo "make environment the archive for Spark's --archives: dist/environment.tar.gz"
	@echo "make docs        the documentation as a site: dist/docs/index.html"
	@echo "make lint        the checks without the tests"
	@echo "make format      format the code and mend what ruff can mend"
	@echo "make lock        resolve the locks again from pyproject.toml"
	@echo "make clean       remove what was built; the demo and .venv stay"
	@echo "SPARK=3.5        behind any of these: with that Spark, in .venv-spark-3.5 from requirements-spark-3.5.lock;"
	@echo "                 make test then leaves out the checks that look at the code alone"

setup:
	@scripts/setup.sh

test: setup
	@scripts/check.sh $(if $(SPARK),,lint) tests

test-laws: setup
	@scripts/check.sh laws

test-cluster: setup
	@scripts/check.sh cluster

MINUTES ?= 10
chaos: setup
	@JAVA_HOME=$$(cat $(VENV)/.java-home) $(BIN)/python -m benchmarks.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

environment: setup
	@$(BIN)/python scripts/pack_environment.py dist/environment.tar.gz

docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "dist/docs/index.html"

lint: setup
	@scripts/check.sh lint

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo: setup
	@scripts/demo.sh "$(DATA)"

# Names versions and hashes only, no host. `make lock UPGRADE=--upgrade` takes the newest of everything.
lock: setup
	@scripts/lock.sh $(UPGRADE)

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache spark-warehouse metastore_db derby.log
	rm -rf src/*.egg-info
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
