# `make demo`: everything set up, the page up, the demo run under way. `make test`: all checks. See README.md.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

HOME_FOLDER ?= ./opcod-home
PORT ?= 8765
# Each file has one process, so that its sites and servers are made once.
# Four processes fill two cores, as many tests wait for other programs; each keeps torch to one thread (tests/conftest.py).
TEST_PROCESSES ?= 4
FUZZ_EXAMPLES ?= 500
PYTEST_ARGS ?=
PIP_ARGS ?=
BENCH_ARGS ?=
TRIES ?= 6
LOAD_ARGS ?=
PAGES_ARGS ?=
SCREENSHOT_ARGS ?=

# The suite starts hundreds of interpreters: where bytecode is not kept, each compiles all that it imports again, as long as the import takes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test lint types laws audit bytecode pytest chromium docs fuzz faults bench load pages memory calibrate estimates screenshots demo-students clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[dev]' -c constraints.txt $(PIP_ARGS)
	@touch $@

demo: install
	$(BIN)/opcod up --home $(HOME_FOLDER) --host 127.0.0.1 --port $(PORT) --demo demo

# The audit waits for an index, types and bytecode take a core each; tests begin when nothing else keeps the machine busy.
test: install lint chromium
	@$(MAKE) --no-print-directory -j4 types bytecode laws audit
	@$(MAKE) --no-print-directory pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

laws: install
	$(BIN)/lint-imports

# Without a Chromium the browser tests are skipped by name.
chromium: install
	@$(BIN)/python -m tests.chromium || timeout 300 $(BIN)/playwright install chromium || echo "No Chromium: the browser tests will be skipped."

# Fails for a known advisory only; offline it says that it did not look.
audit: install
	$(BIN)/python -m tests.audit

# Compiles what tests import, once: each of their processes would else do it. What is wrong is told when they run.
bytecode: install
	@$(BIN)/python -m pytest --collect-only -qq > /dev/null || true

pytest: install
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Many more requests than the suite's: new ones each time.
fuzz: install
	OPCOD_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/integration/test_api_fuzz.py --timeout 7200 $(PYTEST_ARGS)

# Disturbs runs in every way that it knows and writes docs/faults.md: TRIES of each fault.
faults: install
	$(BIN)/python -m tests.faults --tries $(TRIES)

# A step beside trl's, the cost of the record and of feedback, held against docs/performance.json: BENCH_ARGS="--only step", or "--publish"
bench: install
	$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

# The table of settings in docs/operate.md, as the code has it.
docs: install
	$(BIN)/python -m app.cli.settings_table docs/operate.md

# 200 readers while four runs write 500 exchanges a second: LOAD_ARGS="--database postgresql --seconds 60"
load: install
	$(BIN)/python tests/benchmarks/load.py $(LOAD_ARGS)

# Server time of every page at 100 runs of 10,000 points and 1,000,000 exchanges: PAGES_ARGS="--database postgresql --runs 10 --exchanges 10000"
pages: install
	$(BIN)/python tests/benchmarks/pages.py $(PAGES_ARGS)

# Counts the tensors of pairs of small students, against what is computed for them; rewrites docs/memory.md.
memory: install
	$(BIN)/python tests/benchmarks/memory.py

# Measures the runs from which estimates are made, on this machine's CPU: three quiet minutes.
calibrate: install
	$(BIN)/python -m opcod calibrate

# Predicts each completed run of a studio from the others: HOME_FOLDER=./opcod-home
estimates: install
	$(BIN)/python tests/benchmarks/estimate_accuracy.py $(HOME_FOLDER)

# Runs the demo and takes the pictures of README and docs/guide: SCREENSHOT_ARGS="--home ./pictures-home" keeps the runs
screenshots: install chromium
	$(BIN)/python -m tests.browser.pictures $(SCREENSHOT_ARGS)

# Remakes the demo's specialists: the same bytes on the same machine.
demo-students: install
	$(BIN)/python -m opcod demo build

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
