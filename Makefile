# The two commands of the README, and the rest. Needs Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help demo up test check format shots bench clean

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | awk -F '\t' '{ printf "make %-8s %s\n", $$1, $$2 }'

demo: $(STAMP) ## Start everything and weigh full fine-tuning against LoRA on a sample (ARGS=--exit ends after it)
	@$(BIN)/vezna demo $(ARGS)

up: $(STAMP) ## Start everything, without the sample study
	@$(BIN)/vezna up $(ARGS)

test: $(DEV) ## Run the tests (ARGS are pytest's; ARGS="-m 'not slow'" is the quick half)
	@$(BIN)/python -m pytest $(ARGS)

check: $(DEV) ## Lint, types, architecture, templates, migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/djlint templates --check --lint
	$(BIN)/python -m tests.migrations_in_step

format: $(DEV) ## Format code and templates
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/djlint templates --reformat --quiet

shots: $(DEV) ## Pictures of every page into shots/ (1280 and 390 px, light and dark)
	$(BIN)/python -m tests.browser.shots $(ARGS)

bench: $(DEV) ## Run the benchmarks
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean: ## Remove the environment and the demo's data
	rm -rf $(VENV) .vezna

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Install Python 3.11 or newer, or name it: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: Vezna needs Python 3.11 or newer. Name one with: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(VENV)/bin/python
	@echo "Installing Vezna and what it needs into $(VENV) (once, a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[worker,sample,embedded]"
	@touch $@

$(DEV): pyproject.toml | $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[worker,sample,embedded,dev]"
	@touch $@
