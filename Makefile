# One command set for people and CI. `make demo` and `make test` set themselves up.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
NODE := worker/tools/node
NODE_STAMP := $(NODE)/node_modules/.package-lock.json

# The call path compiled to machine code, in a tree of its own: what the image runs, and what `make bench` measures. COMPILED=1
# has the other commands use it, too.
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

# Tests wait more than they compute, so two processes for each of CI's two cores; which process takes a test does not matter.
TEST_PROCESSES ?= 4
# Files or folders of tests; all if there are none.
TESTS ?=

# Of `make chaos`; SEED= repeats a run.
DURATION ?= 60
CALLS ?= 50

# Of `make fuzz`: examples, many of which are sequences: some 250,000 inputs.
EXAMPLES ?= 75000

.PHONY: setup compiled demo test test-fast test-system node-tools check bench chaos leaks fuzz format clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python %d.%d is too old: 3.11 or newer is needed; name one with PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

compiled: $(TREE_STAMP)

$(TREE_STAMP): $(STAMP) setup.py $(shell find common dispatcher simulator worker -name node_modules -prune -o -type f -not -name '*.pyc' -print)
	@command -v $${CC:-gcc} >/dev/null || { echo 'gcc is missing: install the packages of .ci/packages; COMPILED= runs the sources' >&2; exit 1; }
	rm -rf $(TREE)
	AVR_STS_COMPILE=2 $(BIN)/python setup.py --quiet build --build-base build/work --build-lib $(TREE)
	@# Tests look for these beside the code.
	@ln -s $(CURDIR)/README.md $(CURDIR)/grafana $(CURDIR)/helm $(TREE)
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m simulator.demo

test: $(READY)
	$(RUN) -m pytest $(TESTS) -m 'not system' --numprocesses=$(TEST_PROCESSES) --dist=worksteal

# Sans-I/O tests alone, for the inner loop.
test-fast: $(READY)
	$(RUN) -m pytest -m sans_io --quiet --numprocesses=2 --dist=worksteal

# What is missing is named, and its tests are skipped; in CI it fails.
test-system: $(STAMP)
	@$(MAKE) --no-print-directory node-tools || test -z "$$CI"
	$(BIN)/python -m pytest -m system --numprocesses=$(TEST_PROCESSES) --dist=loadfile

# What tools in JavaScript may require.
node-tools: $(NODE_STAMP)

$(NODE_STAMP): $(NODE)/package.json $(NODE)/package-lock.json
	@command -v npm >/dev/null || { echo 'npm is missing: install the packages of .ci/packages' >&2; exit 1; }
	npm ci --prefix $(NODE) --omit=dev --ignore-scripts --no-audit --no-fund
	@touch $@

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Callers in conversation, and everything that can break does; exit code 1 if anything promised was not kept.
chaos: $(READY)
	@$(RUN) -m tests.chaos --duration $(DURATION) --calls $(CALLS) $(if $(SEED),--seed $(SEED))

# 2,000 short calls through one worker; exit code 1 if they leave anything behind.
leaks: $(READY)
	@$(RUN) -m tests.leaks

# Hostile input for AVR's protocol, the link, the Realtime API's events and the WebSocket layer; fails with the input that broke
# something. `make test` takes a share of it.
fuzz: $(READY)
	@FUZZ_EXAMPLES=$(EXAMPLES) $(RUN) -m pytest tests/fuzz -v -s --timeout=3600

# One table of what the service costs; BENCH names parts of it, such as BENCH="cpu new". COMPILED= measures the sources as they
# are.
bench: $(READY)
	@$(RUN) -m tests.bench $(BENCH)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(NODE)/node_modules .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-out
