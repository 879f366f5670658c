# Everything a person runs by hand. `make demo` and `make test` need Python 3.11 with venv, git and make, nothing else.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= $(shell for p in python3.11 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && command -v $$p && break; done)

# On a busy machine one thread per core that is really free is much faster than one per core that is not: set THREADS,
# which brain2video reads from this variable. No result depends on it.
THREADS ?= $(shell nproc 2>/dev/null || echo 2)
export BRAIN2VIDEO_THREADS := $(THREADS)
# Temporary files and pip's downloads stay inside the checkout too; set PIP_CACHE_DIR to share them between checkouts.
export TMPDIR := $(CURDIR)/.state/tmp
export PIP_CACHE_DIR ?= $(CURDIR)/.state/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH
# Bytecode is kept: without it, every command compiles all modules of the project again.
unexport PYTHONDONTWRITEBYTECODE
$(shell mkdir -p .state/tmp)
# The programs of a .venv name its place, so it is made anew where the checkout was moved or copied.
ifeq ($(shell test ! -s $(READY) || test "$$(cat $(READY))" = "$$(pwd -P)" || echo moved),moved)
.PHONY: $(READY)
CLEAR := --clear
endif

.PHONY: demo test test-servers test-full lint bench setup clean

demo: $(READY)          ## the whole loop on the small simulated world
	$(BIN)/brain2video demo

# One process a core, one thread each; whole files to a process, so that what they share is set up once, in the order
# of tests/conftest.py.
PYTEST := $(BIN)/pytest --numprocesses $(THREADS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
test test-servers test-full: export BRAIN2VIDEO_THREADS := 1
test test-servers test-full: export OMP_NUM_THREADS := 1
test test-servers test-full: export MKL_NUM_THREADS := 1
test test-servers test-full: export OPENBLAS_NUM_THREADS := 1

test: lint              ## lint, types, layers, tests that need no browser, no server and no group of processes
	$(PYTEST) -m "not full and not servers"

test-servers: $(READY)  ## tests with Chromium, databases, S3, MLflow's and ZenML's servers, clusters, groups of processes
	$(PYTEST) -m "servers and not full"

test-full: lint         ## every test, the long counts too
	$(PYTEST)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .state/import_linter

bench: $(READY)         ## every benchmark, each beside a named baseline
	for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

setup: $(READY)

# The .pth file makes every program of the environment (zenml, mlflow, dvc) find the state of the checkout it stands in.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 with venv found; install it (Debian: python3.11 and python3.11-venv) or run 'make PYTHON=/path/to/python3.11'" >&2; exit 2; }
	@echo "setting up $(VENV) with $(PYTHON); the first time takes some minutes"
	$(PYTHON) -m venv $(CLEAR) $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --no-build-isolation --editable ".[dev]"
	$(BIN)/python -m compileall -q -j $(THREADS) $(VENV)/lib >/dev/null || true  # pip compiles on one core
	echo "import core.environment" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_brain2video.pth"
	pwd -P > $@

clean:                  ## remove everything that is made, but not what is versioned
	rm -rf $(VENV) .state outputs mlflow/store .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf brain2video.egg-info data/demo/bold-moments data/demo/features.zarr/responses/sub-* \
		data/demo/features.zarr/targets/latents data/demo/features.zarr/targets/blip \
		data/demo/features.zarr/targets/clip data/demo/features.zarr/targets/pixels
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
