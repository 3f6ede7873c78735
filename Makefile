# Everything a developer runs, and what .ci/run calls. Needs Python 3.11 or later and make; works with
# GNU make 3.81 (macOS) too. Nothing outside this folder is changed.

PYTHON ?= python3
VENV   ?= .venv
DIST   ?= dist
DEMO   ?= demo-run
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CHECK_PYTHON := import sys; sys.exit(sys.version_info < (3, 11) and \
	"leukonca needs Python 3.11 or later; %s is %d.%d. Name another one: make PYTHON=python3.12 ..." \
	% ((sys.executable,) + tuple(sys.version_info[:2])))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two pips in one environment at the same time would break it.
.NOTPARALLEL:

.PHONY: help demo test lint format types docs wheel check clean distclean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# --- the environment ---------------------------------------------------------------------------------
# One stamp for each set of packages: `make demo` needs the package alone, the tests and checks its
# `dev` extra, the documentation `docs`. A stamp is redone when one of the files below is newer; with
# nothing changed, pip is not even started.

REQUIREMENTS := pyproject.toml constraints.txt src/leukonca/_version.py

# ensurepip writes pip last, so a .venv whose making was interrupted is completed the next time.
$(BIN)/pip:
	@$(PYTHON) -c '$(CHECK_PYTHON)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(REQUIREMENTS) | $(BIN)/pip
	@$(BIN)/python -c '$(CHECK_PYTHON)'
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-%: $(REQUIREMENTS) | $(BIN)/pip
	@$(BIN)/python -c '$(CHECK_PYTHON)'
	$(PIP) install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch $@

# --- what people run ---------------------------------------------------------------------------------

demo: $(VENV)/.installed  ## train, test and use a small model on the embedded cells
	$(BIN)/leukonca demo --out $(DEMO)

test: $(VENV)/.installed-dev  ## run the tests (PYTEST_ARGS="-k firing" for some of them)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev  ## ruff: faults and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev  ## ruff: mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed-dev  ## mypy, strict
	$(BIN)/mypy

docs: $(VENV)/.installed-docs  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: $(VENV)/.installed-dev  ## build the source distribution, and the wheel from it
	$(BIN)/python -m build --outdir $(DIST)

check: lint types test docs wheel  ## all of the above but the demo

# --- tidying -----------------------------------------------------------------------------------------

clean:  ## remove what was built, and caches; keeps .venv and your runs
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## the same, and .venv and the demo's output
	rm -rf $(VENV) $(DEMO)
