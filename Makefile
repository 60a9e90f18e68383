# The two commands of the README are `make lab` and `make test`; `make help` lists the rest.
# Needs Python 3.11 or newer and make. Everything is installed into .venv.

PYTHON ?= python3
VENV   ?= .venv
CONSTRAINTS ?= constraints.txt
# Processes of one thread each. Tests wait for browsers and kernels, so four are faster on two cores as well; what is
# thorough looks at clocks, too, which want a core each. PYTEST_ARGS= for one process
PYTEST_ARGS ?= -n $(WORKERS) --dist loadfile --no-loadscope-reorder
WORKERS = 4
all-tests: WORKERS = 2
CELL_TIMEOUT ?= 600

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
# JupyterLab refuses to start for root (containers) unless told that this is meant.
ALLOW_ROOT = $(if $(filter 0,$(shell id -u 2>/dev/null)),--allow-root)
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev
SITE := $(VENV)/.ready-site
NOTEBOOKS = $(sort $(wildcard notebooks/*.ipynb))
TESTED = $(wildcard spear_core widgets notebooks tests)

export PYTHONUTF8 = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export JUPYTER_PLATFORM_DIRS = 1

.DEFAULT_GOAL := help
.PHONY: help env lab edit test test-all lint fast fast-tests tests all-tests test-oldest notebooks teaching site \
	test-site bench constraints clean
.NOTPARALLEL:

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

env: $(DEV)  ## make the environment in .venv, with all that tests need

define install
	@$(PYTHON) -c "import sys; v = sys.version.split()[0]; sys.exit(0 if sys.version_info >= (3, 11) else 'Python must be 3.11 or newer, got ' + v + ': make PYTHON=/path/to/python3.11')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off $(2) -e "$(1)" -c $(CONSTRAINTS)
	@$(BIN)/python -c "from pathlib import Path; Path('$@').touch()"
endef

# compiling is half of pip's time, for modules of which a reader imports few
$(READY): pyproject.toml $(CONSTRAINTS)
	$(call install,.,--no-compile)

$(DEV): pyproject.toml $(CONSTRAINTS)
	$(call install,.[dev])
	@$(BIN)/python -c "from pathlib import Path; Path('$(READY)').touch()"

$(SITE): pyproject.toml $(CONSTRAINTS)
	$(call install,.[site])

lab: $(READY)  ## open the first notebook in JupyterLab, as a copy in my-notebooks
	$(BIN)/python -m spear_widgets start my-notebooks

edit: $(DEV)  ## open the notebooks themselves, to change them
	$(BIN)/python -m jupyterlab $(ALLOW_ROOT) notebooks/00_start_here.ipynb

# lint uses one core, for less than half a minute: beside the tests, whose summary comes last
define beside_lint
@$(MAKE) --no-print-directory lint & $(MAKE) --no-print-directory $(1); tests=$$?; \
	wait $$! || { echo "lint failed: see above"; exit 1; }; exit $$tests
endef

test: $(DEV)  ## lint, types, and the tests for every change: units, doctests, notebooks, browser
	$(call beside_lint,tests)

test-all: $(DEV) $(SITE)  ## the same, and what is tested on more cases than `make test` has time for
	$(call beside_lint,all-tests)

lint: $(DEV)  ## ruff, mypy, and who may import whom
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

NBVAL = --nbval --nbval-current-env --nbval-sanitize-with tests/notebooks/sanitize.cfg \
	--nbval-cell-timeout $(CELL_TIMEOUT)

tests all-tests fast-tests: export OMP_NUM_THREADS = 1
tests all-tests fast-tests notebooks: export SPEAR_PROGRESS =  # whoever develops may have answers of their own
tests: $(DEV)  ## the tests of `make test` without lint and types
	$(BIN)/python -m pytest -m "not thorough" --durations=15 $(NBVAL) $(PYTEST_ARGS) $(TESTED)

all-tests: $(DEV)
	$(BIN)/python -m pytest --durations=15 $(NBVAL) $(PYTEST_ARGS) $(TESTED)

fast: $(DEV)  ## lint, types and the tests that take under a minute and a half
	$(call beside_lint,fast-tests)

fast-tests: $(DEV)
	$(BIN)/python -m pytest -m "not slow and not browser and not thorough" $(PYTEST_ARGS)

notebooks: $(DEV)  ## run all notebooks again and store their outputs
	$(BIN)/python -m nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
		--ExecutePreprocessor.store_widget_state=False --ExecutePreprocessor.timeout=$(CELL_TIMEOUT) $(NOTEBOOKS)

teaching: $(DEV)  ## deck, answer key, exam and capstone into build/teaching; SEED=N for a capstone of your own
	$(BIN)/python -m teaching $(if $(SEED),--seed $(SEED))

site: $(SITE)  ## the notebooks as a static site that moves, into build/site
	$(BIN)/python docs/site/build.py

test-site: $(DEV) site  ## make the site, and test every page of it in the browser
	SPEAR_SITE=build/site OMP_NUM_THREADS=1 SPEAR_PROGRESS= $(BIN)/python -m pytest tests/site

bench: $(DEV)  ## speed and reach; prints tables with the machine's description
	@set -e; for script in $(sort $(wildcard benchmarks/[a-z]*.py)); do \
		echo "== $$script"; $(BIN)/python $$script; done

test-oldest:  ## all tests with the oldest releases that pyproject.toml admits, in .venv-oldest
	$(MAKE) all-tests VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt

constraints: $(DEV)  ## pin today's releases of all dependencies in the two constraints files (keeps those that fit)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile --quiet --universal --all-extras --no-annotate --no-header --no-emit-index-url \
		pyproject.toml -o constraints.txt
	$(BIN)/python -m uv pip compile --quiet --resolution lowest-direct --python-version 3.11 --extra dev \
		--no-annotate --no-header --no-emit-index-url pyproject.toml -o constraints-oldest.txt

clean:  ## remove the environment and all caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
