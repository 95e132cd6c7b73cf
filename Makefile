# Everything from a fresh clone: each target first makes the environment it needs.

PYTHON ?= python3
VENV   ?= .venv
PRESET ?= caafp
ARGS   ?=
WORKERS ?= 2
VERSIONS ?= 3.11 3.12 3.13
PINS   ?= -c constraints.txt

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

# A file's tests stay together, so that they share what is slow to make.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# Tests of what computes with torch, and may differ in the last bits between processors.
TORCH := tests/training tests/models tests/export tests/test_models.py tests/test_masking.py \
	tests/test_client_app.py tests/test_golden.py

# Files with tests of whole federations: reading the others takes longer than some of these tests.
E2E := $$(grep -rl --include='test_*.py' 'mark\.e2e' tests)

# The parts whose own tests have to reach every line, or nearly.
CORE := protocol pruning clustering

.DEFAULT_GOAL := help
.PHONY: help setup run test matrix portable e2e drill arm fuzz lint format coverage bench docs clean

help:  ## Show this list
	@grep -E '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Make the environment in .venv (the others do it when they need it)

# Installed again only when what is asked for has changed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("expected Python 3.11 or newer, found " + sys.version.split()[0] + "; name another: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[simulation,dev]" -c constraints.txt
	@touch $@

run: $(STAMP)  ## Train on the embedded data: PRESET=caafp ARGS="sparsity=0.8"
	$(BIN)/caafp run $(PRESET) $(ARGS)

test: $(STAMP)  ## Run the tests, two at once: ARGS="-k mask" WORKERS=4
	$(PYTEST) $(ARGS)

portable: $(STAMP)  ## Run the tests that use torch as on an old processor, without AVX
	ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=SSE4_2 \
		OPENBLAS_CORETYPE=Nehalem $(PYTEST) $(TORCH) $(ARGS)

e2e: $(STAMP)  ## Run whole federations as processes on this machine, TLS and strangers among them
	$(PYTEST) -m e2e --durations=10 $(E2E) $(ARGS)

drill: $(STAMP)  ## Hold the fault drill: six SuperNodes, of which hardly one behaves; some minutes
	$(BIN)/python -m tests.e2e.drill

arm: $(STAMP)  ## Train on a device of emulated 64-bit ARM, TLS and keys included; some minutes
	PYTHON=$(BIN)/python $(BIN)/python -m tests.e2e.arm

fuzz: $(STAMP)  ## Send 100 000 mutated messages to both decoders; some minutes
	$(BIN)/python -m tests.fuzz.decoders 100000

lint: $(STAMP)  ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Put style and format right where that can be done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

matrix:  ## Run the tests with other Pythons: VERSIONS="3.12 3.13" ARGS="tests/runs"; PINS= for the newest versions
	@for version in $(VERSIONS); do \
	  python$$version -c pass 2>/dev/null || { echo "python$$version: not installed, left out"; continue; }; \
	  python$$version -m venv .venv-$$version && \
	  .venv-$$version/bin/python -m pip install --quiet --disable-pip-version-check -e ".[simulation,dev]" $(PINS) && \
	  .venv-$$version/bin/python -c 'import sys, flwr; print("Python", sys.version.split()[0], "flwr", flwr.__version__)' && \
	  .venv-$$version/bin/python -m pytest -q -m "not e2e" $(ARGS) || exit 1; \
	done

coverage: $(STAMP)  ## Check that the tests of the core reach it, and list the lines they miss
	$(PYTEST) $(addprefix --cov=caafp_app/,$(CORE)) --cov-report=term-missing:skip-covered \
		--cov-fail-under=95 $(addprefix tests/,$(CORE))

bench: $(STAMP)  ## Measure bytes, seconds and memory, see benchmarks/README.md: ARGS="--json-dir DIR"
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(STAMP)  ## Build the pages and the API reference in site/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]" -c constraints.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## Remove the environment and what checks and tests left
	rm -rf $(VENV) .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
