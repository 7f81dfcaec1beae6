# One entry point for people and for CI. Needs git, GNU make and Python 3.11 or newer; everything else is
# installed into .venv from hash-locked files. Only `make lock` needs uv.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# The interpreter that makes .venv. Empty: the first of python3, python3.13, python3.12, python3.11 that is new enough.
PYTHON ?=
VENV ?= .venv
# Options of `rescue-cds demo`, for example DEMO_ARGS="--port 9000".
DEMO_ARGS ?=
# FHIR=hapi: the demo on a HAPI server instead of the embedded sandbox. Needs Java 17 and Maven.
FHIR ?=
# Options of the HAPI server, for example HAPI_ARGS="--hapi-port 8090 --load".
HAPI_ARGS ?=
# Options of pytest. Giving any means part of the suite, so the coverage gate is then left out.
PYTEST_ARGS ?=
# Processes that share the whole suite; one that has done its half takes from the end of the other's.
TEST_PROCESSES ?= 2
# The tests that keep something in a database (tests/databases.py).
POSTGRES_TESTS := tests/unit/app/store tests/unit/app/stats tests/unit/app/decisions tests/unit/app/export \
    tests/unit/app/test_replay.py tests/unit/app/test_trust.py tests/unit/app/test_service.py tests/integration \
    tests/contract/test_feedback.py tests/contract/test_order_hooks.py
# Branch coverage, in percent, below which `make test` fails for the packages that decide or translate.
COVERAGE_GATE ?= 100
COVERAGE_GATED := cds_hooks/*,fhir_mappings/*,app/clinical/*
BENCH_ARGS ?=
# Options of the mutation run: --sample N, --target PERCENT, --processes N, --file NAME, --names.
MUTATION_ARGS ?=
# Options of the security report: --size small|full|huge, --area NAME.
SECURITY_ARGS ?=
# Options of the durability report: --size small|full, --area NAME, --without NAME.
DURABILITY_ARGS ?=
UV ?= uv

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input --quiet
# Stamps lie inside the environment, so that removing it removes them.
LOCKED := $(VENV)/.installed-lock
PROJECT := $(VENV)/.installed-project
DEV := $(VENV)/.installed-dev
# An environment whose interpreter has gone (an upgrade, another machine) is made anew, and filled anew.
$(shell [ -x $(PY) ] || rm -f $(LOCKED) $(PROJECT) $(DEV))

.PHONY: help demo hapi install dev test quick-test test-hapi test-oauth test-postgres coverage lint types borders check openapi safety-file \
    knowledge-page mutation security-report durability bill-of-materials bench bench-gateway bench-scope lock install-check clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile
	@echo 'Start with "make demo". Needs Python 3.11 or newer (PYTHON=python3.12 names one).'

demo: $(PROJECT) ## install, then start the service and a FHIR sandbox with synthetic patients
ifeq ($(strip $(FHIR)),hapi)
	@$(PY) -m tests.hapi.hapi demo $(DEMO_ARGS)
else ifeq ($(strip $(FHIR)),)
	@$(VENV)/bin/rescue-cds demo $(DEMO_ARGS)
else
	@echo 'make demo: FHIR is hapi or empty; for a server that runs already: DEMO_ARGS="--fhir-url URL"' >&2; exit 1
endif

hapi: $(PROJECT) ## build HAPI, a FHIR server for tests, start it and print its base; Ctrl-C ends it
	@$(PY) -m tests.hapi.hapi run $(HAPI_ARGS)

install: $(PROJECT) ## install the service into .venv

dev: $(DEV) ## install the service and the development tools into .venv

test: $(DEV) ## run the whole test suite and hold the coverage gate
	@echo '== tests'
ifeq ($(strip $(PYTEST_ARGS)),)
	@$(PY) -m pytest -n $(TEST_PROCESSES) --dist worksteal --cov --cov-report=
	@$(MAKE) coverage
else
	@$(PY) -m pytest $(PYTEST_ARGS)
endif

quick-test: $(DEV) ## the tests without the hostile corpora, and without measuring coverage, which makes code three times slower
	@echo '== tests, without coverage and tests/security'
	@$(PY) -m pytest -n $(TEST_PROCESSES) --dist worksteal -m 'not security'

test-hapi: $(DEV) ## run the tests that need a real FHIR server: builds HAPI (Java 17, Maven), starts it, ends it
	@echo '== tests against HAPI'
	@$(PY) -m tests.hapi.hapi build
	@RESCUE_CDS_REQUIRE="hapi$${RESCUE_CDS_REQUIRE:+,$$RESCUE_CDS_REQUIRE}" $(PY) -m pytest $(or $(strip $(PYTEST_ARGS)),tests/hapi)

test-oauth: $(DEV) ## Backend Services against a real authorisation server (needs Node and npm)
	@echo '== a real authorisation server'
	@RESCUE_CDS_REQUIRE=oauth $(PY) -m pytest tests/oauth $(PYTEST_ARGS)

test-postgres: $(DEV) ## the tests of the record on PostgreSQL instead of SQLite (needs the distribution's package postgresql)
	@echo '== the record on PostgreSQL'
	@RESCUE_CDS_TEST_DATABASE=postgresql RESCUE_CDS_REQUIRE="postgresql$${RESCUE_CDS_REQUIRE:+,$$RESCUE_CDS_REQUIRE}" \
	    $(PY) -m pytest -n $(TEST_PROCESSES) --dist worksteal -m 'not sqlite' \
	    $(or $(strip $(PYTEST_ARGS)),$(POSTGRES_TESTS))

coverage: $(DEV) ## report the coverage of the last whole test run and hold the gate
	@echo '== branch coverage, reported'
	@$(PY) -m coverage report --skip-covered --skip-empty --omit='$(COVERAGE_GATED)'
	@echo '== branch coverage, at least $(COVERAGE_GATE) %: $(COVERAGE_GATED)'
	@$(PY) -m coverage report --skip-covered --skip-empty --show-missing --precision=2 \
	    --include='$(COVERAGE_GATED)' --fail-under=$(COVERAGE_GATE)

lint: $(DEV) ## ruff (rules and format), bandit, our own rules for the code, and what no file of the tree may hold
	@echo '== lint'
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check --quiet .
	@$(PY) -m bandit --quiet --configfile pyproject.toml --recursive app cds_hooks fhir_mappings tools
	@$(PY) tools/check_code.py
	@$(PY) tools/check_tree.py

types: $(DEV) ## mypy --strict
	@echo '== types'
	@$(PY) -m mypy
	@$(PY) -m mypy --strict tools/*.py tests/hapi/hapi.py

borders: $(DEV) ## who may import whom
	@echo '== import borders'
	@$(VENV)/bin/lint-imports

check: lint types borders quick-test ## the quick gate: lint, types, borders, the tests without tests/security and coverage

openapi: $(PROJECT) ## write openapi.yaml from the service's routes
	@$(VENV)/bin/rescue-cds openapi >openapi.yaml.new && mv openapi.yaml.new openapi.yaml || \
	    { rm -f openapi.yaml.new; exit 1; }
	@echo 'openapi.yaml written'

safety-file: $(PROJECT) ## write the generated pages of docs/safety
	@$(PY) tools/safety_file.py

knowledge-page: $(PROJECT) ## write docs/safety/clinical-knowledge.md from the knowledge files
	@$(PY) tools/knowledge_page.py

mutation: $(DEV) ## does a signed case notice each change of the knowledge? MUTATION_ARGS="--sample 100" for a part
	@$(PY) -m tests.cases.mutation $(MUTATION_ARGS)

security-report: $(DEV) ## every security figure, from the corpora in tests/security. SECURITY_ARGS="--size full"
	@$(PY) -m tests.security.report $(SECURITY_ARGS)

durability: $(DEV) ## kill, cut and fill: nothing that was answered is lost (needs postgresql, strace). DURABILITY_ARGS="--size full"
	@$(PY) -m tests.durability.report --side-by-side $(DURABILITY_ARGS)

bill-of-materials: $(DEV) ## what is shipped, as build/sbom.cdx.json (CycloneDX) and build/licences.md
	@$(PY) tools/bill_of_materials.py

bench: $(DEV) ## CPU per request, throughput and latency beside the floor
	@$(PY) tests/bench/run.py $(BENCH_ARGS)

bench-gateway: $(DEV) ## the gateway beside a bare HTTP client, hooks arriving on a schedule
	@$(PY) tests/bench/open_loop.py $(BENCH_ARGS)

bench-scope: $(DEV) ## requests and bytes of a hook: everything at once beside scope first
	@$(PY) tests/bench/scope.py $(BENCH_ARGS)

lock: $(PY) ## write both lock files from pyproject.toml (needs uv; LOCK_ARGS=--upgrade takes newer versions)
	@command -v $(UV) >/dev/null 2>&1 || { echo 'make lock needs uv: "$(PY) -m pip install uv", then "make lock UV=$(VENV)/bin/uv"' >&2; exit 1; }
	@UV=$(UV) PYTHON=$(PY) sh tools/lock.sh $(LOCK_ARGS)

install-check: $(DEV) ## lint the Dockerfile and run its install steps in a clean directory
	@echo '== container file'
	@$(VENV)/bin/hadolint Dockerfile
	@echo 'hadolint: no finding'
	@PYTHON=$(PY) sh tools/install_check.sh

clean: ## remove caches and build products
	@rm -rf build dist *.egg-info htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache \
	    .hypothesis .schemathesis .import_linter_cache openapi.yaml.new
	@find app cds_hooks fhir_mappings tests tools -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv
	@rm -rf $(VENV)

$(PY):
	@PYTHON='$(PYTHON)' sh tools/venv.sh $(VENV)

# --no-deps: the lock names every package. Left to resolve, pip looks for an extra (coverage[toml]) anew and refuses the
# newest version it then finds, because that one has no hash here.
$(LOCKED): requirements.lock | $(PY)
	@echo 'Installing the locked packages into $(VENV) (the first time takes a minute) ...'
	@$(PIP) install --no-deps --require-hashes -r requirements.lock
	@touch $@

# --no-build-isolation: the build backend comes from the lock too, nothing is fetched without a hash.
$(PROJECT): $(LOCKED) pyproject.toml
	@echo 'Installing rescue-cds itself ...'
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements-dev.lock $(PROJECT)
	@echo 'Installing the locked development tools into $(VENV) ...'
	@$(PIP) install --no-deps --require-hashes -r requirements-dev.lock
	@$(PY) -m pip --disable-pip-version-check check
	@touch $@
