# Set-up, checks and figures of Fenghuo. `make help` lists the targets.
#
# GNU make and a POSIX shell; needs Python >= 3.11 and nothing else of ours. Everything lands inside the checkout
# (.venv, static/node_modules, var), and a second call does only what has changed since the first.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# 3.11 first: it is what the checks run on.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python3.14; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
MODULES := static/node_modules
# How many test processes; 0 runs the tests in one.
WORKERS ?= 2
PYTEST_ARGS ?=
# How many processes `make bench-tree` starts.
NODES ?= 30
# How long `make soak` takes.
MINUTES ?= 60
# How many worlds `make sim` plays.
SEEDS ?= 10000

.PHONY: help run run-tree tree bench-link bench-tree test lint format bench bench-media soak media-wires crash fuzz fuzz-media sim pins setup setup-dev system clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

run: setup ## a demo node on http://127.0.0.1:8080 with synthetic data; Ctrl-C stops it
	@exec $(BIN)/python server.py demo

run-tree: setup ## province, city, county and vehicle as four linked nodes on http://127.0.0.1:8080 to 8083
	@exec $(BIN)/python server.py demo --tree

test: setup-dev system ## every check: lint, types, import rules, tests on SQLite and on PostgreSQL side by side
	@WORKERS='$(WORKERS)' PYTEST_ARGS='$(PYTEST_ARGS)' sh tests/setup/check.sh all

lint: setup-dev ## only ruff, mypy, the import rules and the types of the scripts
	@sh tests/setup/check.sh lint

format: setup-dev ## rewrite the Python files in the house format
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: ## one JSON line per figure on standard output, nothing else there
	@{ $(MAKE) --no-print-directory setup-dev && sh tests/setup/system.sh install janus; } >&2
	@exec $(BIN)/python -m bench

bench-media: ## the forwarder with feedback, repair and simulcast on, in several shapes: JSON lines; about ten minutes
	@{ $(MAKE) --no-print-directory setup-dev && sh tests/setup/system.sh install janus; } >&2
	@exec $(BIN)/python -m bench.sfu_media

soak: setup-dev ## MINUTES=60 of comings, goings, reloads and worker crashes: memory, tasks and descriptors; a JSON line
	@exec $(BIN)/python -m tests.soak --minutes $(MINUTES)

media-wires: setup-dev ## browsers over bad wires: loss, delay, a narrow downlink (needs root for network namespaces)
	@$(BIN)/python -m pytest -m slow tests/media/test_bad_wires.py --timeout=900 $(PYTEST_ARGS)

crash: setup-dev ## kill -9 at each named step, ten times each
	@CRASH_REPEATS=10 $(BIN)/python -m pytest -m crash --timeout=1800 $(PYTEST_ARGS)

tree: setup-dev ## the slow tests of the tree: real processes, partitions, bad radio
	@$(BIN)/python -m pytest -m slow tests/tree tests/test_wires.py --timeout=1800 $(PYTEST_ARGS)

bench-link: setup-dev ## catching up over the link: 100,000 entries between two real servers
	@exec $(BIN)/python -m bench link

bench-tree: setup-dev ## an idle tree of NODES=30 real processes: memory and CPU of a node
	@BENCH_TREE_NODES='$(NODES)' exec $(BIN)/python -m bench tree

fuzz: setup-dev ## the property and fuzz tests with many more, random examples
	@CHECK_PROFILE=fuzz $(BIN)/python -m pytest -k 'fuzz or property or hostile or schema' --timeout=3600 $(PYTEST_ARGS)

sim: setup-dev ## the tree in simulation: 135 nodes through a day, real signatures, each rule broken once, then SEEDS=10000
	@$(BIN)/python -m tests.sim.day
	@$(BIN)/python -m tests.sim --seeds 200 --real --jobs $(WORKERS)
	@for rule in random_generation head_in_have base claim_order claim_in_decision after reporter standing; do \
	  $(BIN)/python -m tests.sim --seeds 100 --break $$rule --jobs $(WORKERS) 2>/dev/null || exit 1; \
	done
	@$(BIN)/python -m tests.sim --seeds $(SEEDS) --jobs $(WORKERS)

fuzz-media: setup-dev ## a million inputs at each parser of media, from a new seed (FUZZ_INPUTS, FUZZ_SEED)
	@FUZZ_INPUTS="$${FUZZ_INPUTS:-1000000}" FUZZ_SEED="$${FUZZ_SEED:-$$(date +%s)}" \
	  $(BIN)/python -m pytest tests/media/test_fuzz_media.py --timeout=7200 $(PYTEST_ARGS)

pins: setup-dev ## compile requirements*.in and package.json to exact versions with hashes
	@for name in requirements requirements-dev; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command "make pins" $$name.in -o $$name.txt || exit 1; \
	done
	@cd static && sh ../tests/setup/npm.sh install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved

setup: $(VENV)/.fenghuo-run $(MODULES)/.fenghuo-run ## only the packages that `make run` needs

setup-dev: $(VENV)/.fenghuo-dev $(MODULES)/.fenghuo-dev ## the packages that the checks need as well

system: ## Debian's browsers and databases, where we may install them
	@sh tests/setup/system.sh install

clean: ## remove what the set-up and the checks made; keeps var/, where a node's data is
	rm -rf $(VENV) $(MODULES) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache var/checks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python >= 3.11 not found; name it with make PYTHON=..." >&2; exit 1; }
	@sh tests/setup/venv.sh "$(PYTHON)" $(VENV)

$(VENV)/.fenghuo-run: requirements.txt | $(BIN)/python
	@echo "installing Python packages (pinned, checked by hash)" >&2
	@$(PIP) install --no-deps --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.fenghuo-dev: requirements-dev.txt $(VENV)/.fenghuo-run
	@echo "installing the Python packages of the checks" >&2
	@$(PIP) install --no-deps --require-hashes -r requirements-dev.txt
	@touch $@

# npm ci empties node_modules, so both stamps live and die with it.
$(MODULES)/.fenghuo-run: static/package.json static/package-lock.json | $(VENV)/.fenghuo-run
	@echo "installing front-end packages (pinned, checked by hash)" >&2
	@cd static && sh ../tests/setup/npm.sh ci --ignore-scripts --omit=dev
	@touch $@

$(MODULES)/.fenghuo-dev: static/package.json static/package-lock.json | $(VENV)/.fenghuo-run
	@echo "installing the front-end packages of the checks" >&2
	@cd static && sh ../tests/setup/npm.sh ci --ignore-scripts
	@touch $(MODULES)/.fenghuo-run $@
