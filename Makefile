# The commands for people and CI. They create the virtual environment that they need.
PYTHON ?= python3
# Versions of the dependencies: `tested` (constraints.txt), `lowest` (the lower bounds of pyproject.toml) or `newest`. Each
# has a virtual environment of its own.
DEPENDENCIES ?= tested
VENV := .venv$(if $(filter-out tested,$(DEPENDENCIES)),-$(DEPENDENCIES))
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NODE := worker/tools/node
NODE_STAMP := $(NODE)/node_modules/.package-lock.json

# The compiled call path, in a separate tree. The image runs it, `make bench` measures it, and COMPILED=1 makes the other
# commands use it.
TREE := build/compiled
TREE_STAMP := $(TREE)/.built
ifneq (,$(filter bench,$(MAKECMDGOALS)))
COMPILED ?= 1
endif
ifeq (,$(COMPILED))
READY := $(STAMP)
RUN := $(BIN)/python
else
READY := $(TREE_STAMP)
RUN := PYTHONPATH=$(CURDIR)/$(TREE):$(CURDIR) $(BIN)/python -P
endif

# An environment that forbids Python to keep bytecode, as images of containers do, makes each of the many processes of
# the tests compile all modules again.
export PYTHONDONTWRITEBYTECODE :=

# Number of test processes: CI has two cores, and tests wait more than they compute.
TEST_PROCESSES ?= 5
# Files or folders of tests for `make test`; empty: all.
TESTS ?=

# Seconds and calls of `make chaos`; SEED= repeats a run.
DURATION ?= 60
CALLS ?= 50

# Number of faults of `make mutants`; SEED= repeats a run.
NUMBER ?= 60

# Examples of `make fuzz`. Many examples are sequences, so these are some 250,000 inputs.
EXAMPLES ?= 75000

.PHONY: setup compiled demo test test-fast test-system node-tools check bench chaos leaks fuzz coverage mutants format clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt scripts/constraints.py
	@$(PYTHON) -c 'import sys; sys.exit("Python %d.%d is too old: 3.11 or newer is needed; name one with PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PYTHON) scripts/constraints.py $(DEPENDENCIES) >$(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(VENV)/constraints.txt --editable '.[dev]'
	@touch $(STAMP)

compiled: $(TREE_STAMP)

$(TREE_STAMP): $(STAMP) setup.py $(shell find common dispatcher simulator worker -name node_modules -prune -o -type f -not -name '*.pyc' -print)
	@command -v $${CC:-gcc} >/dev/null || { echo 'gcc is missing: install the packages of .ci/packages; COMPILED= runs the sources' >&2; exit 1; }
	rm -rf $(TREE)
	AVR_STS_COMPILE=2 $(BIN)/python setup.py --quiet build --build-base build/work --build-lib $(TREE)
	@# Tests expect these files beside the code.
	@ln -s $(CURDIR)/README.md $(CURDIR)/grafana $(CURDIR)/helm $(TREE)
	@touch $@

demo: $(STAMP)
	@$(BIN)/avr-sts-openai demo

test: $(READY)
	$(RUN) -m pytest $(TESTS) -m 'not system' --numprocesses=$(TEST_PROCESSES) --dist=worksteal

# Sans-I/O tests alone, for the inner loop.
test-fast: $(READY)
	$(RUN) -m pytest -m sans_io --quiet --numprocesses=2 --dist=worksteal

# Names missing packages and skips their tests; fails for missing packages in CI.
test-system: $(STAMP)
	@$(MAKE) --no-print-directory node-tools || test -z "$$CI"
	$(BIN)/python -m pytest -m system --numprocesses=$(TEST_PROCESSES) --dist=loadfile

# Installs the packages that tools in JavaScript may require.
node-tools: $(NODE_STAMP)

$(NODE_STAMP): $(NODE)/package.json $(NODE)/package-lock.json
	@command -v npm >/dev/null || { echo 'npm is missing: install the packages of .ci/packages' >&2; exit 1; }
	npm ci --prefix $(NODE) --omit=dev --ignore-scripts --no-audit --no-fund
	@touch $@

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Holds conversations while faults are injected into all parts; exit code 1 if a promise of the README was broken.
chaos: $(READY)
	@$(RUN) -m tests.chaos --duration $(DURATION) --calls $(CALLS) $(if $(SEED),--seed $(SEED))

# Runs 2,000 short calls through one worker; exit code 1 if they leak anything.
leaks: $(READY)
	@$(RUN) -m tests.leaks

# Feeds hostile input to AVR's protocol, the link, the Realtime API's events and the WebSocket layer; shows an input that
# causes a failure. `make test` runs a part of it.
fuzz: $(READY)
	@FUZZ_EXAMPLES=$(EXAMPLES) $(RUN) -m pytest tests/fuzz -v -s --timeout=3600

# Measures which lines and branches of the Sans-I/O cores are tested; exit code 1 if a module is below the minimum. COMPILED
# has no effect, because coverage.py measures only sources.
coverage: $(STAMP)
	@$(BIN)/python -m tests.core_coverage --processes $(TEST_PROCESSES)

# Puts random faults into a copy of the Sans-I/O cores, one at a time, and lists the faults that no test detects.
mutants: $(STAMP)
	@$(BIN)/python -m tests.mutants --number $(NUMBER) $(if $(SEED),--seed $(SEED))

# Prints one table of the service's costs; BENCH names parts of it, such as BENCH="cpu new". COMPILED= measures the sources
# without compiling.
bench: $(READY)
	@$(RUN) -m tests.bench $(BENCH)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(NODE)/node_modules .venv .venv-* build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-out
