# Everything a newcomer runs. `make` alone says what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SHELL := /bin/bash
PYTEST_ARGS ?=
# Processes that share the unit tests; live tests have the machine for themselves.
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help install demo test test-unit test-live lint types bench lock clean

help: ## say what there is
	@echo "Usher. First:  make demo"
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## set up, start Usher, send shoppers at it, watch who enters and leaves
	@$(BIN)/usher demo

test: test-unit test-live ## unit tests, then live tests on a real Ray

test-unit: $(STAMP)
	@echo "Compiling the evaluation loop where that was not done yet (about a minute and a half, once) ..."
	@$(BIN)/python -m cluster.runtime.warming
	$(BIN)/python -m pytest tests -m "not live" -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-live: $(STAMP)
	$(BIN)/python -m pytest tests -m live $(PYTEST_ARGS)

lint: $(STAMP) ## ruff
	$(BIN)/ruff check .

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

bench: $(STAMP) ## the benchmarks, with their correctness checks
	$(BIN)/usher bench

install: $(STAMP) ## set up .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Usher needs Python 3.11 or newer; \`$(PYTHON)\` is $$($(PYTHON) --version 2>&1 || echo missing)."; \
	  echo "Name another one:  make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12"; exit 1; } >&2
	@test -x $(BIN)/python || { echo "Making $(VENV) ..."; $(PYTHON) -m venv $(VENV) || { \
	  echo "Is the venv module installed? (Debian, Ubuntu: apt install python3-venv)" >&2; rm -rf $(VENV); exit 1; }; }
	@echo "Installing what requirements.lock names (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

lock: ## pin every dependency anew (needs uv)
	uv pip compile pyproject.toml --universal --all-extras --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --quiet -o requirements.lock

clean: ## remove what these commands made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis bench-out build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
