# Fleetvisor's commands. `make help` lists them; each sets up what it needs.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS ?=

.PHONY: help setup demo test check nightly mutants bench release-check format docs clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.run: requirements.lock requirements-build.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Fleetvisor needs Python 3.11 or newer; give one with make PYTHON=..." >&2; exit 1; }
	@echo "Installing what Fleetvisor needs into $(VENV), once: a minute or two ..." >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements.lock -r requirements-build.lock
	@$(PIP) --no-index --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock requirements-clients.lock $(VENV)/.run
	@$(PIP) --require-hashes -r requirements-dev.lock
	@$(PIP) --require-hashes --no-deps -r requirements-clients.lock
	@touch $@

setup: $(VENV)/.run  ## make .venv with .venv/bin/fleetvisor

demo: setup  ## ten simulated devices get two versions; ARGS="--scenario bad-release" stops a bad one; --exit ends by itself
	@$(BIN)/fleetvisor demo $(ARGS)

check: $(VENV)/.dev  ## format, lint, types, layout and unit tests, in under a minute
	@scripts/check

test: $(VENV)/.dev  ## everything: check, then all tests, with what they need installed and started
	@scripts/test $(ARGS)

nightly: $(VENV)/.dev  ## 10,000 simulated worlds of boards and of rollouts, the fuzzer for an hour, and mutants; ARGS="--worlds 500" for fewer
	@$(BIN)/python -m scripts.nightly $(ARGS)

mutants: $(VENV)/.dev  ## change the pure modules in small ways: their unit tests must notice; MODULE=guard for one of them
	@$(BIN)/python -m scripts.mutants $(MODULE)

bench: $(VENV)/.dev  ## ratios to nginx and to gooseBit in the same run, printed and written to bench/results/
	@scripts/debian-packages wrk nginx-light
	@$(BIN)/python -m bench $(ARGS)

release-check: $(VENV)/.dev  ## what a release needs: tests, the wheel, and the demo from it; ARGS=--quick without the tests
	@scripts/release-check $(ARGS)

format: $(VENV)/.dev  ## format the code and mend what the linter can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

docs: $(VENV)/.dev  ## write the generated reference pages anew
	@$(BIN)/python -m scripts.generate_docs

clean:  ## remove what make made
	rm -rf $(VENV) .venv-goosebit .venv-newest .pytest_cache .ruff_cache .hypothesis
