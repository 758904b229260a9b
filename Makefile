# Outrider. `make demo` and `make test` do all set-up themselves; `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .venv-bench
PEERS_READY := $(PEERS)/.ready
DISTRIBUTIONS := protocol firmware_profiles compiler fleet_server agent

# The interpreter that makes the virtual environment: the first that is 3.11 or newer.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
# A wheel file of torch to install first; without it pip chooses (README: "Which torch").
TORCH_WHEEL ?=
# One more than cores: many tests wait for processes.
WORKERS ?= 3
SEED ?= 0
KEEP ?=
SUITE ?=
BREAK ?=
ARGS ?=

# One thread for BLAS and the like: figures are compared on two shared cores. A user's pip settings that fight a
# virtual environment are switched off; indexes, mirrors and certificates are kept. Bytecode is kept: without it every
# process compiles all it imports at each start.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export ORT_DISABLE_TELEMETRY := 1
export PYTHONNOUSERSITE := 1
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE VIRTUAL_ENV PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV

PIP := $(BIN)/python -m pip install -qq

##@ The two commands

demo: $(READY) ## The whole loop on real data, checked (SEED=0..2, KEEP=1, BREAK=D1..D14)
	@SEED='$(SEED)' KEEP='$(KEEP)' BREAK='$(BREAK)' $(BIN)/python -m examples.watch --seed '$(SEED)' \
	  $(if $(KEEP),--keep) $(if $(BREAK),--break '$(BREAK)')

test: $(READY) ## All tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -q -m "not soak" $(ARGS)

##@ Before a change goes in

check: check-style check-types check-imports check-docs ## ruff, mypy --strict, import contracts, documentation

check-style: $(READY)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }
	@echo "style: clean"

check-types: $(READY)
	@$(BIN)/mypy

check-imports: $(READY)
	@report=$$($(BIN)/lint-imports --no-cache 2>&1) || { echo "$$report"; exit 1; }; echo "$$report" | grep "^Contracts:"

check-docs: $(READY)
	@$(BIN)/python -m pytest -q -m "not e2e" tests/docs

format: $(READY) ## Put every file into its one form
	@$(BIN)/ruff check --quiet --fix --exit-zero .
	@$(BIN)/ruff format .

test-pythons: ## protocol, profiles and agent under Python 3.10 and 3.13, the server under 3.13, where those are found
	@.ci/test-pythons 3.10 3.13

soak: $(READY) ## Break each claim of the demo for real; each must end in failure at its own number
	@$(BIN)/python -m pytest -q -m soak --timeout 1200 $(ARGS) || [ $$? = 5 ]
	@.ci/soak $(BREAK)

tuf-conformance: $(READY) ## The public TUF conformance suite against our update client (SUITE=its checkout)
	@.ci/tuf-conformance '$(SUITE)' $(ARGS)

##@ Figures and pages

bench: bench-local-api bench-supervisor bench-drift bench-calibration bench-certificates bench-audit bench-verify bench-at-rest bench-refusals bench-compiler ## Every figure in docs/benchmarks, measured here

bench-local-api: $(READY) ## Added latency of the local API beside FastAPI JSON
	@mkdir -p bench-out; $(BIN)/python -m examples.bench.local_api $(ARGS) | tee bench-out/local-api.md

bench-supervisor: $(READY) ## Memory of the supervisor with its mutual-TLS connection
	@mkdir -p bench-out; $(BIN)/python -m examples.bench.supervisor_rss $(ARGS) | tee bench-out/supervisor.md

bench-drift: $(READY) ## Drift statistics per record, alarms and delays on the watch data
	@mkdir -p bench-out; $(BIN)/python -m examples.bench.drift_watch $(ARGS) | tee bench-out/drift.md

bench-calibration: $(READY) ## What accuracy alone overlooks when calibration data is broken
	@mkdir -p bench-out; $(BIN)/python -m examples.bench.calibration $(ARGS) | tee bench-out/calibration.md

bench-audit: $(READY) ## What an entry of the audit log costs; sealing and verifying
	@mkdir -p bench-out; $(BIN)/python -m examples.bench.audit $(ARGS) | tee bench-out/audit.md

bench-certificates: $(READY) ## Device certificates issued and renewed a second
	@mkdir -p bench-out; $(BIN)/python -m examples.bench.certificates $(ARGS) | tee bench-out/certificates.md

bench-verify: $(READY) ## CPU time of one update's verification, and the size of its bundle
	@mkdir -p bench-out; $(BIN)/python -m examples.bench.verify_update $(ARGS) | tee bench-out/verify.md

bench-at-rest: $(READY) ## Load time of a sealed model beside a plain one
	@mkdir -p bench-out; $(BIN)/python -m examples.bench.at_rest $(ARGS) | tee bench-out/at-rest.md

bench-refusals: $(READY) ## How long `outrider-compiler check` takes to refuse a small model
	@mkdir -p bench-out; $(BIN)/python -m examples.bench.refusals $(ARGS) | tee bench-out/refusals.md

bench-compiler: $(READY) $(PEERS_READY) ## Three nets on the digits beside ONNX Runtime's quantizer, NNCF and ai-edge-quantizer
	@mkdir -p bench-out; $(BIN)/python -m examples.bench.digits --peers $(PEERS) $(ARGS) | tee bench-out/compiler.md

bench-reliability: $(READY) ## A thousand kill -9 while rollouts run (half an hour)
	@mkdir -p bench-out; $(BIN)/python -m tests.e2e.kills $(ARGS) | tee bench-out/reliability.md

docs: $(READY) ## Fill the generated blocks of README and docs from what ran here
	@$(BIN)/python -m docs.generate

##@ The house

setup: $(READY) ## Virtual environment, pinned packages, the five distributions

setup-litert: $(READY) ## The compiler's LiteRT exporter as well (about 1 GB)
	@$(PIP) -c constraints.txt -r constraints-litert.txt

setup-bench: $(PEERS_READY) ## What bench-compiler compares with, in an environment of its own (.venv-bench)

clean: ## Remove what the commands above made, the virtual environments too
	@rm -rf $(VENV) $(PEERS) .demo bench-out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

$(READY): constraints.txt $(DISTRIBUTIONS:%=%/pyproject.toml)
	@test -n "$(PYTHON)" || { echo "Outrider needs Python 3.11 or newer; none was found (or give PYTHON=/path/to/python)."; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments: install python3-venv (Debian, Ubuntu), then try again."; exit 2; }
	@echo "setting up $(VENV) with $$($(PYTHON) -V); the first time takes some minutes (torch)"
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(if $(TORCH_WHEEL),$(PIP) -c constraints.txt '$(TORCH_WHEEL)')
	@$(PIP) -r constraints.txt
	@$(PIP) --no-deps seglearn==1.2.5
	@$(PIP) --no-deps --no-build-isolation $(DISTRIBUTIONS:%=-e ./%)
	@touch $@

$(PEERS_READY): constraints-bench.txt
	@echo "setting up $(PEERS): the tools that the compiler is compared with"
	@$(PYTHON) -m venv --clear $(PEERS)
	@$(PEERS)/bin/python -m pip install -qq --no-deps -r $<
	@touch $@

.PHONY: demo test check check-style check-types check-imports check-docs format test-pythons soak tuf-conformance bench \
	bench-local-api bench-supervisor bench-drift bench-calibration bench-certificates bench-audit bench-verify bench-at-rest bench-refusals bench-compiler bench-reliability docs setup setup-litert setup-bench clean help
