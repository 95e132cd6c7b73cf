# Everything from a fresh clone: each target first makes the environment it needs.

PYTHON ?= python3
VENV   ?= .venv
PRESET ?= caafp
ARGS   ?=

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

# The parts whose tests have to reach every line, or nearly.
CORE := caafp_app/protocol/*,caafp_app/pruning/*,caafp_app/clustering/*

.DEFAULT_GOAL := help
.PHONY: help setup run test lint format coverage bench clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Make the environment in .venv (the others do it when they need it)

# Installed again only when what is asked for has changed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("expected Python 3.11 or newer, found " + sys.version.split()[0] + "; name another: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[simulation,dev]" -c constraints.txt
	@touch $@

run: $(STAMP)  ## Train on the embedded data: PRESET=caafp ARGS="sparsity=0.8"
	$(BIN)/caafp run $(PRESET) $(ARGS)

test: $(STAMP)  ## Run all tests, and check that they reach the core: ARGS="-k mask"
	$(BIN)/python -m pytest --cov --cov-report= $(ARGS)
	@if [ -z "$(ARGS)" ]; then $(BIN)/coverage report --include='$(CORE)' --fail-under=90; fi

lint: $(STAMP)  ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Put style and format right where that can be done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(STAMP)  ## Run all tests and list the lines they miss, also in htmlcov/
	$(BIN)/python -m pytest --cov --cov-report=term-missing --cov-report=html

bench: $(STAMP)  ## Measure bytes, seconds and memory, see benchmarks/README.md: ARGS="--json-dir DIR"
	$(BIN)/python -m benchmarks $(ARGS)

clean:  ## Remove the environment and what checks and tests left
	rm -rf $(VENV) .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
