VENV := .venv
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin

# The first interpreter at hand that is new enough; name another with `make setup PYTHON=...`.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
CANDIDATES := python3 python3.11 python3.12 python3.13
SEED ?= 0
PYTHON ?= $(firstword $(foreach each,$(CANDIDATES),$(shell $(each) -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && echo $(each))))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint docs bench gpu chaos walk dist clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

setup: $(STAMP) ## make .venv and install the project into it

demo: setup ## search on a small phantom study: the best trial, its Dice and its peak memory
	$(BIN)/ossnet tune

test: setup ## run the tests that take seconds each, two files at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: setup ## run the tests that take minutes each
	$(BIN)/python -m pytest -m 'slow and not gpu'

lint: setup ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: setup ## draw docs/architecture.svg from the imports, and build the site of docs/ into site/
	$(BIN)/python docs/architecture.py
	$(BIN)/mkdocs build --strict

bench: setup ## benchmark networks, their input, inference and predicted memory on this machine
	for each in models input inference memory; do $(BIN)/ossnet bench $$each --output runs/bench || exit; done

# Needs torch with CUDA, pytest and what the ground floor imports, not Ray or MLflow: so it installs nothing.
gpu: ## check and measure a GPU in ten minutes, in .venv or else with PYTHON
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m ossnet.benchmarks.gpu --margin ossnet/planning/margin.json

chaos: setup ## break what studies need, by chance of SEED, and write docs/reliability.md: nothing may be lost
	$(BIN)/python -m pytest -m 'chaos and not gpu' --chaos-seed $(SEED) --chaos-record

walk: setup ## walk a newcomer's way on a clean clone, with a stop-watch; SCANS=... names a folder of real scans
	$(BIN)/python tests/e2e/newcomer.py --data "$(SCANS)" --output runs/walk

dist: setup ## build wheel and sdist into dist/, and check them
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[release]'
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*

clean: ## remove .venv, builds and caches; what jobs wrote stays
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# torch goes first and alone, so that a CPU build that pip finds at hand is taken and no CUDA wheels come.
$(STAMP): pyproject.toml setup.py constraints.txt
	@"$(PYTHON)" -c '$(NEW_ENOUGH)' 2>/dev/null || { \
		echo 'error: ossnet needs Python 3.11 or newer, found "$(PYTHON)": make setup PYTHON=/path/to/python3' >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt torch
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	@touch $@
