# Everything that a person or CI does with this project. `make help` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.demo-installed
# Two workers for two cores; override with WORKERS=8 on a bigger machine.
WORKERS ?= 2

# Programs that are started keep their compiled bytecode: without it each start of the service takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-fast lint format clients servers frameworks engines bench examples clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(DEMO_STAMP): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(STAMP): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev,demo,postgres,volumes]'
	@touch $@ $(DEMO_STAMP)

demo: $(DEMO_STAMP) ## start the service, train digits on two nodes under MPI, show the result, stop
	@$(BIN)/python examples/demo.py

lint: $(STAMP) ## ruff, mypy, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## let ruff write
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clients: $(STAMP) ## the original's own clients, into .clients; the tests of one that cannot be had are skipped
	@$(BIN)/python tests/clients/install.py

servers: $(STAMP) ## storage servers that tests start, into .servers; the tests of one that cannot be had are skipped
	@$(BIN)/python -m tests.servers.install

test: lint clients servers ## everything that this machine can run; says what it skipped and why
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

test-fast: $(STAMP) ## the quick part, under a minute
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow and not e2e"

engines: $(STAMP) ## the tests of the Slurm and Ray engines: installs Ray (285 MB); Slurm's packages must be there
	$(BIN)/python -m pip install --quiet --editable '.[ray]'
	$(BIN)/pytest -n $(WORKERS) --dist worksteal tests/engines tests/chaos -k "slurm or ray or alike"

bench: $(STAMP) ## the house figures, as ratios in one run
	$(BIN)/python -m benchmarks

frameworks: $(STAMP) ## what examples and tests train with, old frameworks included, into .frameworks (6 GB); NAMES="jax" for some
	@$(BIN)/python -m tests.frameworks.install $(NAMES)

examples: frameworks ## every example that is installed here, with its result checked
	$(BIN)/pytest -n 0 tests/examples

clean: ## the environment and all caches
	rm -rf $(VENV) .clients .servers .frameworks .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
