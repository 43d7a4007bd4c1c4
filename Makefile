# A fresh machine needs Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test test-slow chaos check format bench bench-scale clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

setup: .venv/.installed  ## create .venv with exact versions

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "medsweep needs Python 3.11 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv .venv
	@# torch first and by its exact version: a range would take a build with several GB of CUDA.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup  ## run a small study on an embedded cohort and make its tables (2 to 4 minutes on two cores)
	$(BIN)/medsweep run demo --out results/demo

test: setup  ## the test suite, a process a core
	$(BIN)/python -m pytest -q -n auto --dist loadscope

test-slow: setup  ## what takes minutes: crashes, the demo, real cohorts
	$(BIN)/python -m pytest -q -m slow

chaos: setup  ## kill and fill what can be killed and filled, 20 times each; a table and a figure (1 hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos --out build/chaos

check: setup  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup  ## mend format and imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## speed on a MIMIC-III-sized cohort, one thread
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -o addopts=--import-mode=importlib tests/benchmarks -q --benchmark-columns=min,median,rounds
	$(BIN)/python -m tests.benchmarks.models

bench-scale: setup  ## prepare cohorts of MIMIC-IV's size, once and four times (10 minutes, 4 GB of disk)
	$(BIN)/python -m tests.benchmarks.scale $${TMPDIR:-/tmp}/medsweep-scale

clean:  ## remove the environment and caches; results stay
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .benchmarks
