# The commands for people and CI. They create the virtual environment that they need.
PYTHON ?= python3
# Versions of the dependencies: `tested` (constraints.txt), `lowest` (the lower bounds of pyproject.toml) or `newest`. Each
# has a virtual environment of its own.
DEPENDENCIES ?= tested
VENV := .venv$(if $(filter-out tested,$(DEPENDENCIES)),-$(DEPENDENCIES))
BIN := $(VENV)/bin
# What running needs, and what the tests add to it.
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-dev
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
READY := $(TEST_STAMP)
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

.PHONY: help setup compiled demo test test-fast test-system node-tools check bench chaos leaks fuzz coverage mutants format clean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*  ## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "make %-12s %s\n", $$1, $$2 }'

setup: $(STAMP)  ## installs what running needs into .venv, with the command .venv/bin/avr-sts-openai

$(STAMP): pyproject.toml constraints.txt scripts/constraints.py scripts/install.py
	@$(PYTHON) -c 'import sys; sys.exit("Python %d.%d is too old: 3.11 or newer is needed; name one with PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) scripts/install.py $(VENV) $(DEPENDENCIES) ''
	@touch $(STAMP)

$(TEST_STAMP): $(STAMP)
	@$(BIN)/python scripts/install.py $(VENV) $(DEPENDENCIES) dev
	@touch $(TEST_STAMP)

compiled: $(TREE_STAMP)  ## compiles the call path into build/compiled

$(TREE_STAMP): $(TEST_STAMP) setup.py $(shell find common dispatcher simulator worker -name node_modules -prune -o -type f -not -name '*.pyc' -print)
	@command -v $${CC:-gcc} >/dev/null || { echo 'gcc is missing: install the packages of .ci/packages; COMPILED= runs the sources' >&2; exit 1; }
	rm -rf $(TREE)
	AVR_STS_COMPILE=2 $(BIN)/python setup.py --quiet build --build-base build/work --build-lib $(TREE)
	@# Tests expect these files beside the code.
	@ln -s $(CURDIR)/README.md $(CURDIR)/grafana $(CURDIR)/helm $(TREE)
	@touch $@

demo: $(STAMP)  ## holds a call of real words against a simulated API: no key, no Redis
	@$(BIN)/avr-sts-openai demo

test: $(READY)  ## all tests that need Python and a Redis; TESTS= chooses files or folders
	$(RUN) -m pytest $(TESTS) -m 'not system' --numprocesses=$(TEST_PROCESSES) --dist=worksteal

# Sans-I/O tests alone, for the inner loop.
test-fast: $(READY)  ## tests without a socket or a process, for the inner loop
	$(RUN) -m pytest -m sans_io --quiet --numprocesses=2 --dist=worksteal

# Names missing packages and skips their tests; fails for missing packages in CI.
test-system: $(TEST_STAMP)  ## tests that need programs of the system (.ci/packages)
	@$(MAKE) --no-print-directory node-tools || test -z "$$CI"
	$(BIN)/python -m pytest -m system --numprocesses=$(TEST_PROCESSES) --dist=loadfile

# Installs the packages that tools in JavaScript may require.
node-tools: $(NODE_STAMP)  ## installs the packages that tools in JavaScript may require

$(NODE_STAMP): $(NODE)/package.json $(NODE)/package-lock.json
	@command -v npm >/dev/null || { echo 'npm is missing: install the packages of .ci/packages' >&2; exit 1; }
	npm ci --prefix $(NODE) --omit=dev --ignore-scripts --no-audit --no-fund
	@touch $@

check: $(TEST_STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Holds conversations while faults are injected; exit code 1 if a promise of docs/guarantees.md was broken.
chaos: $(READY)  ## calls while faults are injected into all parts; DURATION=, CALLS=, SEED=
	@$(RUN) -m tests.chaos --duration $(DURATION) --calls $(CALLS) $(if $(SEED),--seed $(SEED))

# Runs 2,000 short calls through one worker; exit code 1 if they leak anything.
leaks: $(READY)  ## 2,000 short calls, which must leave nothing behind
	@$(RUN) -m tests.leaks

# Feeds hostile input to AVR's protocol, the link, the Realtime API's events and the WebSocket layer; shows an input that
# causes a failure. `make test` runs a part of it.
fuzz: $(READY)  ## hostile input for each parser; EXAMPLES= chooses how many
	@FUZZ_EXAMPLES=$(EXAMPLES) $(RUN) -m pytest tests/fuzz -v -s --timeout=3600

# Measures which lines and branches of the Sans-I/O cores are tested; exit code 1 if a module is below the minimum. COMPILED
# has no effect, because coverage.py measures only sources.
coverage: $(TEST_STAMP)  ## lines and branches of the cores that tests run
	@$(BIN)/python -m tests.core_coverage --processes $(TEST_PROCESSES)

# Puts random faults into a copy of the Sans-I/O cores, one at a time, and lists the faults that no test detects.
mutants: $(TEST_STAMP)  ## random faults in the cores, and the tests that detect them; NUMBER=, SEED=
	@$(BIN)/python -m tests.mutants --number $(NUMBER) $(if $(SEED),--seed $(SEED))

# Prints one table of the service's costs; BENCH names parts of it, such as BENCH="cpu new". COMPILED= measures the sources
# without compiling.
bench: $(READY)  ## costs of a call in one table; BENCH= chooses parts
	@$(RUN) -m tests.bench $(BENCH)

format: $(TEST_STAMP)  ## formats the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## removes all that these commands made
	rm -rf $(NODE)/node_modules .venv .venv-* build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-out
