# Every verb works on a bare machine with Python >= 3.10: what it needs is installed into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests start hundreds of servers. Where Python may not keep what it compiled, each compiles Flask and SQLAlchemy anew:
# a second of a core.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo recipes test matrix soak fuzz check lint bench bench-writers bench-resume format clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## an embedded PostgreSQL and the live demo on http://127.0.0.1:5000
	$(BIN)/python -m demo

recipes: $(VENV)/.demo  ## the demo, and what its recipes for htmx, Turbo and React take from npm
	npm ci --prefix demo/recipes --ignore-scripts --no-audit --no-fund
	$(BIN)/python -m demo

test: $(VENV)/.dev  ## the whole suite on an embedded PostgreSQL (PGEVENTS_TEST_DSN: on another server)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not alone and not soak"
	$(BIN)/python -m pytest -m "alone and not soak"

matrix: $(VENV)/.dev  ## all faults and clients in two browsers, again and again (MATRIX="--rounds 10 --seed 7" and so on)
	$(BIN)/python -m tests.browser.matrix $(or $(MATRIX),--rounds 5)

soak: $(VENV)/.dev  ## all that can go wrong, for 10 minutes (SOAK="--seconds 60 --seed 7" and so on), and large crowds
	$(BIN)/python -m tests.faults.soak $(or $(SOAK),--seconds 600)
	$(BIN)/python -m pytest -m soak -s tests/faults

fuzz: $(VENV)/.dev  ## hostile inputs for 10 minutes (FUZZ="--seconds 60 --seed 7" and so on)
	$(BIN)/python -m tests.security.fuzz $(or $(FUZZ),--seconds 600)

check: lint  ## lint and the unit tests: seconds
	$(BIN)/python -m pytest -q tests/unit

lint: $(VENV)/.dev  ## ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

format: $(VENV)/.dev  ## let ruff write the files its way
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## print the measurements (`make bench-fanout` and so on: one of them)
	$(BIN)/python -m tests.bench

bench-writers: $(VENV)/.dev  ## of these, what capture costs who writes
	$(BIN)/python -m tests.bench writers

bench-resume: $(VENV)/.dev  ## crowds that come back at once: how long, and what live clients notice
	$(BIN)/python -m tests.bench.resume $(RESUME)

bench-%: $(VENV)/.dev
	$(BIN)/python -m tests.bench $*

clean:  ## remove what the other verbs made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
