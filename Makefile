# Needs Python 3.11 to 3.13 with pip, and make. Everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --no-annotate

.DEFAULT_GOAL := help
.PHONY: help setup up test fuzz bench lint lock reset

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

setup: $(VENV)/.ok ## Create .venv with the pinned packages

up: setup ## Start everything in this terminal (WEB_PORT=8000 CARRIER_PORT=18000; KAFKA=1 KAFKA_PORT=19092)
	@exec $(BIN)/python -m config.local.up

test: setup ## Run the tests (ARGS="-k breaker" for some of them)
	@$(BIN)/python -m pytest $(ARGS)

fuzz: setup ## Look for answers that are not documented (CALLS=5000), elsewhere each time
	@SCHEMATHESIS_CALLS=$(or $(CALLS),5000) SCHEMATHESIS_SEED=$${SCHEMATHESIS_SEED:-$$(date +%s)} \
		$(BIN)/python -m pytest -q -s tests/journeys/test_schemathesis.py

bench: setup ## Measure speed (ARGS="--only batch --rounds 5 --json out.json", ARGS=--help)
	@$(BIN)/python -m benchmarks $(ARGS)

lint: setup ## Style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	ENV_FILE=.env.example $(BIN)/mypy .
	$(BIN)/lint-imports

lock: setup ## Pin the dependencies of pyproject.toml again
	echo 'uv==0.13.*' | $(COMPILE) - -o requirements-bootstrap.txt
	$(COMPILE) pyproject.toml -o requirements.txt
	$(COMPILE) pyproject.toml --group dev -o requirements-dev.txt

reset: setup ## Forget the data of `make up`
	@$(BIN)/python -m config.local.up reset

# The path file lets every tool of .venv import the project from any directory, as an editable install would.
$(VENV)/.ok: requirements-bootstrap.txt requirements-dev.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed: Python 3.11, 3.12 or 3.13 is needed."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is another one: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { echo "$(PYTHON) has no pip: install it first."; exit 1; }
	@echo "Installing the pinned packages into $(VENV) ..."
	@$(PYTHON) -m venv --without-pip $(VENV)
	@$(PYTHON) -m pip --python $(BIN)/python install -q --disable-pip-version-check --require-hashes \
		--only-binary :all: -r requirements-bootstrap.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes --only-binary :all: -r requirements-dev.txt
	@$(BIN)/python -c 'import pathlib, sysconfig; \
		pathlib.Path(sysconfig.get_path("purelib"), "checkout.pth").write_text("$(CURDIR)\n")'
	@touch $@
