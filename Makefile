.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2

.PHONY: help demo test test-all check docs bench clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/pyvenv.cfg:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/pyvenv.cfg setup.cfg pyproject.toml constraints.txt
	$(INSTALL) --config-settings editable_mode=compat -e .
	@touch $@

.venv/.installed-test: .venv/.installed
	$(INSTALL) --config-settings editable_mode=compat -e '.[test]'
	@touch $@

demo: .venv/.installed  ## install, then segment and score synthetic scans: a page with pictures
	$(BIN)/medseg demo --output demo-output

check: .venv/.installed-test  ## style, types, layers, bundles and pages in step with their sources
	$(BIN)/ruff check medseg tests tools benchmarks
	$(BIN)/ruff format --check --quiet medseg tests tools benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/make_bundles.py --check
	$(BIN)/python tools/make_reference.py --check

test: check  ## the checks and the fast tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -m "not slow"

test-all: check  ## every test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS)

docs: .venv/.installed-test  ## remake the pictures and tables in docs/
	$(BIN)/python tools/make_figures.py
	$(BIN)/python tools/make_reference.py

bench: .venv/.installed-test  ## speed and agreement beside MONAI; writes benchmarks/results
	$(BIN)/python benchmarks/run.py

clean:  ## remove what was built, the environment included
	rm -rf .venv build *.egg-info demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
