# Every target has its plain-Python lines in the README, for a machine without make.
.DEFAULT_GOAL := help
.PHONY: help demo dev test test-quick lint format bench lock images version clean

PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

VERSION = $(shell sed -n 's/^ *version="\(.*\)",$$/\1/p' setup.py)

# One more than a small machine has cores: the daemons' tests wait much. What shares a fixture stays together.
WORKERS := -n 3 --dist loadfile --no-loadscope-reorder

help: ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# $(call install,EXTRAS,STAMP): uv when it is there or can be installed, else pip.
define install
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	if $(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet uv; then \
		$(BIN)/python -m uv pip install --quiet --compile-bytecode -c constraints.txt -e '.$(1)'; \
	else \
		$(BIN)/python -m pip install --quiet -c constraints.txt -e '.$(1)'; \
	fi
	touch $@
endef

$(VENV)/installed: setup.py requirements-ingest.txt constraints.txt
	$(call install,)

$(VENV)/installed-dev: setup.py requirements-ingest.txt constraints.txt
	$(call install,[dev])
	touch $(VENV)/installed

$(VENV)/installed-bench: setup.py requirements-ingest.txt constraints.txt
	$(call install,[bench])

demo: $(VENV)/installed ## set up, run 14 days for all places through all layers, write the report
	$(BIN)/weather demo

dev: $(VENV)/installed ## open the Dagster UI on http://127.0.0.1:3000
	$(BIN)/weather dev

test: lint ## set up, lint, run all tests
	$(BIN)/python -m pytest $(WORKERS) --cov --cov-report=term --durations=25

test-quick: $(VENV)/installed-dev ## the tests of the inner loop, under a minute
	$(BIN)/python -m pytest $(WORKERS) -q -m "not integration"

lint: $(VENV)/installed-dev ## ruff and mypy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed-dev ## format and sort
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed-dev $(VENV)/installed-bench ## measure; see benchmarks/README.md
	$(BIN)/python benchmarks/run.py

COMPILE := $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-header --no-annotate

# Superset has the platform's DuckDB: a file that a newer one wrote is not opened by an older one.
lock: $(VENV)/installed-dev ## resolve constraints.txt and Superset's again
	$(COMPILE) --all-extras setup.py -o constraints.txt
	grep '^duckdb==' constraints.txt | $(COMPILE) --constraint - weather_superset/requirements.txt \
		-o weather_superset/constraints.txt

images: ## build the container images, which needs Docker
	for target in code-location ingestor superset; do \
		docker build --target $$target --tag weather-$$target:$(VERSION) --build-arg VERSION=$(VERSION) \
			--build-arg REVISION="$$(git rev-parse HEAD)" . || exit 1; \
	done

version: ## print the version
	@echo $(VERSION)

clean: ## remove the virtual environment, demo data and caches; live data stays
	rm -rf $(VENV) .weather/simulator .weather/recorded weather_dbt/target weather_dbt/logs .coverage .mypy_cache .ruff_cache .pytest_cache *.egg-info
