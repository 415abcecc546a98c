PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run test test-faults test-slow check docs bench clean

help:  ## show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 20

setup: $(READY)  ## set up .venv with everything that development needs

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "msgd needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@

run: $(READY)  ## run the main job: does the class of the noise matter? (runs/mnist1d/report.html)
	$(BIN)/msgd run mnist1d

# files in the order of their names: in that of their numbers of tests, few long ones would be left for one core
# glibc keeps the memory of a training step for the next one: tests that train or measure take an eighth less CPU time
KEEP_MEMORY := MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=1073741824
test: $(READY)  ## run the tests, on two cores
	OMP_NUM_THREADS=1 $(KEEP_MEMORY) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-faults: $(READY)  ## inject faults by the dozen, and bad input by the ten thousand (25 minutes; docs/faults.md)
	rm -f build/faults*.json; MSGD_FAULTS=full OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults

test-slow: $(READY)  ## run the long checks as well
	$(BIN)/python -m pytest -m 'slow or not slow'

check: $(READY)  ## lint, type-check, and build the site
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs: $(READY)  ## write the pages that are made by code, and the site (build/site/index.html)
	$(BIN)/python docs/laws.py
	$(BIN)/python docs/results.py
	$(BIN)/python docs/after_noise.py
	$(BIN)/python docs/shuffled.py
	$(BIN)/python docs/benchmarks.py
	$(BIN)/python docs/faults.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(READY)  ## measure what msgd costs against what one would do instead (70 minutes; docs/benchmarks.md)
	$(BIN)/python benchmarks/bench.py

clean:  ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
