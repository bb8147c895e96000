# Everything a user or a developer types.  Needs Python 3.11+, make and the package index, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help install install-dev demo test lint bench screenshots lock clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.installed-dev: requirements.lock requirements-dev.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $(VENV)/.installed $@

install: $(VENV)/.installed ## Install what running needs

install-dev: $(VENV)/.installed-dev ## Install what developing needs

demo: $(VENV)/.installed ## Set up, start two simulators and a worker, run the main sync, serve the admin (ARGS="--once --records 2000 --json")
	@$(BIN)/python manage.py demo $(ARGS)

test: $(VENV)/.installed-dev ## Run the tests; what needs PostgreSQL or a browser is named and left out
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-dev ## ruff, mypy, import rules, missing migrations, settings check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/python -m tests.production_check

bench: $(VENV)/.installed-dev ## Measure floor and product in turn and print the ratios of docs/performance.md
	$(BIN)/python -m tests.bench $(ARGS)

screenshots: $(VENV)/.installed-dev ## Make the pictures in docs/ with the system's Chromium
	$(BIN)/python -m tests.browser.screenshots $(ARGS)

lock: $(VENV)/.installed-dev ## Pin every dependency with its hashes
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-options --extra postgres --extra redis -o requirements.lock pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-options --extra postgres --extra redis --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

clean: ## Remove the demo's database and caches, keep the installation
	rm -rf var .pytest_cache .mypy_cache .ruff_cache .hypothesis
