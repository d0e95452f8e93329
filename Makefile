# Every target sets up what it needs in a local .venv, once, and again when the pins change.

SHELL := bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FIND_PYTHON := for name in python3.11 python3.12 python3.13 python3; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$name; break; fi; done
PYTHON ?= $(shell $(FIND_PYTHON))

.PHONY: help install quickstart test lint format check-long docs clean

help:
	@echo "make install     set up .venv with the tested versions"
	@echo "make quickstart  accelerate a small text-to-video model on this machine, look at quickstart/index.html"
	@echo "make test        the tests, without the long ones"
	@echo "make check-long  the tests that take minutes"
	@echo "make docs        the documents as a site, in site/index.html"
	@echo "make lint        style, types and the direction of imports"
	@echo "make format      rewrite the files in the project's style"
	@echo "make clean       remove .venv and caches; keeps runs/ and quickstart/"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with make PYTHON=/path/to/python."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install torch==2.13.0
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $@

quickstart: $(STAMP)
	$(BIN)/disca lab show --output quickstart

test: $(STAMP)
	$(BIN)/python -m pytest -m "not long"

check-long: docs
	$(BIN)/python -m pytest -m long

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(STAMP)
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix src tests
	$(BIN)/ruff format src tests

clean:
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find src tests \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +
