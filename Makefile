# Everything runs in a virtual environment that is made when it is first needed.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help install demo test test-slow bench lint format docs guests clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(VENV)/.installed ## make the virtual environment with everything that tests need

demo: $(VENV)/.installed ## capture a small database, try placement policies, write a report
	$(BIN)/disco-trace demo

test: $(VENV)/.installed ## run the tests
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed ## run all tests, also those that take minutes
	$(BIN)/python -m pytest -m "slow or not slow"

bench: $(VENV)/.installed ## measure speeds (an idle machine gives steady figures)
	$(BIN)/python benchmarks/run.py

lint: $(VENV)/.linters ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.linters ## put the source in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed ## write the documents that are made from the source
	$(BIN)/python -m disco_trace.cli.reference docs/cli.md
	$(BIN)/python -m disco_trace.trace.schema_doc traces/SCHEMA.md

guests: $(VENV)/.installed ## build every guest anew (needs gcc-mipsel-linux-gnu, or the extra `guests`)
	for folder in capture/guests/*/; do $(BIN)/disco-trace guests build $$folder -o capture/images --force || exit 1; done

clean: ## remove the virtual environment and what tests and builds leave behind
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[test]'
	touch $@

$(VENV)/.linters: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[test,dev]'
	touch $@ $(VENV)/.installed
