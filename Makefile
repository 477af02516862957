# Everything runs in .venv, which is made from requirements.lock when that has changed. Settings (.env.example) are
# taken from the environment or as arguments: make refresh CUSTOMERS=2000

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Without bytecode on disk every start takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
UV := uv==0.13.9
PY := .venv/bin/python
READY := .venv/.made-from-lock
MANIFEST := include/dbt/target/manifest.json
DBT_FILES := $(shell find include/dbt -mindepth 1 \( -path include/dbt/target -o -path include/dbt/logs \) -prune -o \
	\( -type d -o -name '*.sql' -o -name '*.yml' -o -name '*.csv' -o -name '*.md' \) -print)

.PHONY: help refresh up app down airflow load backup restore new-metric new-campaign suppress erase snowflake-setup snowflake-doctor \
	load-history test test-fast test-snowflake lint lint-style lint-sql lint-types lint-dbt semantics rooms chaos bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

refresh: $(READY) $(MANIFEST) ## Run the whole nightly job once, with a real Airflow, and print a summary
	@exec $(PY) -m local.refresh

up: $(READY) $(MANIFEST) ## Leave Airflow running, with the UI on http://localhost:8080 (UP_PORT=... for another port)
	@exec $(PY) -m local.local_airflow up

app: $(READY) $(MANIFEST) ## Show the screens on http://localhost:8501 (SCREENS_PORT=... for another port)
	@exec $(PY) -m app.serve

down: ## Stop the Airflow that `make up` left running
	@if [[ -x $(PY) ]]; then exec $(PY) -m local.local_airflow down; fi

airflow: $(READY) $(MANIFEST) ## Run Airflow's command line on what `make up` left running: make airflow ARGS="dags list"
	@exec $(PY) -m local.local_airflow airflow $(ARGS)

load: $(READY) ## Load your own data: make load CUSTOMERS_FILE=... TRANSACTIONS_FILE=...
	@exec $(PY) -m local.load

suppress: $(READY) ## Add a CSV to the suppression list: make suppress FILE=suppressions.csv
	@exec $(PY) -m local.suppress

erase: $(READY) $(MANIFEST) ## Remove a person from the DuckDB file and the export files: make erase CUSTOMER=CUST00000001
	@exec $(PY) -m local.erase

backup: $(READY) ## Copy the DuckDB file while nobody writes, and read the copy: make backup FILE=backup.duckdb
	@exec $(PY) -m local.backup backup

restore: $(READY) ## Put a backup in the place of the DuckDB file, which is kept: make restore FILE=backup.duckdb
	@exec $(PY) -m local.backup restore

new-metric: $(READY) ## Write the files of a new metric, ready to run: make new-metric NAME=weekend_spend
	@exec $(PY) -m local.scaffold metric

new-campaign: $(READY) ## Write the exposure of a new campaign: make new-campaign NAME=winback (TEMPLATE=1: SQL of its own)
	@exec $(PY) -m local.scaffold campaign

snowflake-setup: $(READY) ## Set up Snowflake: roles, warehouses, schemas, masking (DRY_RUN=1 prints; DEPLOYMENT=...; AFTER_PUBLICATION=1)
	@exec $(PY) -m deploy.snowflake.set_up

snowflake-doctor: $(READY) $(MANIFEST) ## Check a Snowflake account: what only it can answer (DEPLOYMENT=...)
	@exec $(PY) -m deploy.snowflake.doctor

load-history: $(READY) ## Load a long history into core, in ranges of months: make load-history FROM=2023-01 UNTIL=2026-01
	@exec $(PY) -m deploy.load_history

# On two cores three processes leave neither idle; what starts an Airflow has processes enough with two.
TESTS := -m pytest tests --dist loadscope --no-loadscope-reorder --durations=10
test: $(READY) $(MANIFEST) ## Run all tests
	@$(PY) $(TESTS) -m "not airflow" -n 3 || failed=$$?; \
	$(PY) $(TESTS) -m airflow -n 2 || failed=$$?; \
	exit $${failed:-0}

test-fast: $(READY) $(MANIFEST) ## Run the unit tests, the Dags' and one small dbt build: under 3 minutes
	@$(PY) -m pytest tests/unit tests/dags $(addprefix tests/integration/test_aggregate_marts.py::,test_all_marts_build \
		test_customer_360_profile)

test-snowflake: $(READY) $(MANIFEST) ## Run tests/snowflake on a real account, named by SNOWFLAKE_ variables
	@$(PY) -m pytest tests/snowflake --real-account

lint: lint-style lint-sql lint-types lint-dbt ## Check style of Python and SQL, types, the direction of imports, the dbt project

lint-style: $(READY)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports --no-logo

lint-sql: $(READY) $(MANIFEST)
	@.venv/bin/sqlfluff lint include/dbt/models include/dbt/snapshots include/dbt/tests include/sql deploy

lint-types: $(READY)
	@.venv/bin/mypy

lint-dbt: $(READY) $(MANIFEST)
	@COLUMNS=180 .venv/bin/dbt-bouncer run --show-all-failures

semantics: $(READY) $(MANIFEST) ## Write what follows from the metrics anew: Snowflake's semantic view, docs/semantics.md
	@WRITE=1 $(PY) -m deploy.snowflake.semantic_view
	@$(PY) -m docs.list_metrics

rooms: $(READY) ## Draw the rooms and their imports anew: docs/images/rooms.svg
	@$(PY) -m docs.draw_rooms

chaos: $(READY) $(MANIFEST) ## Kill a part of N nights, each at a random moment, and look at what is left: make chaos N=50 (SEED=1)
	@exec $(PY) -m tests.end_to_end.chaos --nights $(or $(N),50) --seed $(or $(SEED),1)

bench: $(READY) $(MANIFEST) ## Measure, at full size, what benchmarks/README.md reports
	@exec $(PY) -m benchmarks.run

clean: ## Remove environment, Airflow's state and caches; data/ stays
	@if [[ -x $(PY) ]]; then $(PY) -m local.local_airflow down --all; fi
	rm -rf .venv .airflow include/dbt/target include/dbt/logs .pytest_cache .ruff_cache \
		.mypy_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "data/ (warehouse and audiences) was not touched."

# The stamp is written last: an interrupted set-up is done again. uv takes seconds where pip takes minutes.
$(READY): requirements.lock
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or 3.12." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { \
		echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 or 3.12 is needed, for example: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	@echo "Setting up .venv from requirements.lock (10 s to 3 min, once) ..."
	@rm -rf .venv
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "$(PYTHON) -m venv failed: on Debian, apt install python3-venv." >&2; exit 1; }
	@began=$$SECONDS; log=.venv/set-up.log; \
	{ .venv/bin/pip install --quiet '$(UV)' && VIRTUAL_ENV=$$PWD/.venv .venv/bin/uv pip sync --quiet requirements.lock; } &> $$log \
		|| { echo "uv could not be used, pip takes longer ..."; .venv/bin/pip install --quiet -r requirements.lock &> $$log; } \
		|| { cat $$log >&2; echo "Set-up failed: see above." >&2; exit 1; }; \
	echo "Set up in $$((SECONDS - began)) s."
	@touch $@

$(MANIFEST): $(READY) $(DBT_FILES)
	@echo "Parsing the dbt project ..."
	@$(PY) -m local.dbt_manifest
	@touch $@
