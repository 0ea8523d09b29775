# Two commands set a new machine up: make nightly, make test. Each target installs first if need be.
SOURCE ?= simulated
ifeq ($(SOURCE),simulated)
HOME_DIR ?= .liftloop
else
HOME_DIR ?= .liftloop-$(SOURCE)
endif
INPUT ?=
DATE ?=
WORLD ?=
NIGHTS ?= 30
SEEDS ?=
OUT ?= .liftloop-world
DAYS ?=
CUSTOMERS ?=
CUSTOMER ?=
TRUTH ?=
REISSUE ?=
EXPORT ?=
CAUSALML ?=
PYMC ?=
VERSION ?=
SINCE ?=
REASON ?=
QUICK ?=
PYTHON ?= python3.11

# Without a GPU, torch's CPU build saves two gigabytes: TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Compiled functions are kept beside the packages: a night's process saves some seconds.
export NUMBA_CACHE_DIR ?= $(abspath $(VENV))/compiled
LIFTLOOP := LIFTLOOP_HOME=$(abspath $(HOME_DIR)) OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m orchestration.commands

.DEFAULT_GOAL := help
.PHONY: help install nightly approve recalibrate agent interactors media-mix rollback freeze unfreeze validate restore erase plan-exploration world loop study-gate study-drift study-forward study-pacing study-deciding study-effects study-three-in-one study-media-mix study-agentic-marketing study-tokens-to-policy bench test test-slow check docs audit fix ui clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11, or pass PYTHON=..."; exit 1; }
	@echo "> Install into $(VENV) (a few minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[dev]'
	@touch $(STAMP)

install: $(STAMP) ## Install everything into .venv from the lock

nightly: $(STAMP) ## Run the loop for one night (SOURCE= INPUT= DATE= HOME_DIR= WORLD= REISSUE=1 EXPORT=csv)
	@$(LIFTLOOP) nightly --source $(SOURCE) $(if $(WORLD),--world '$(WORLD)') $(if $(CUSTOMERS),--customers $(CUSTOMERS)) $(if $(INPUT),--input '$(INPUT)') $(if $(DATE),--date $(DATE)) $(if $(REISSUE),--reissue) $(if $(EXPORT),--export-csv)

validate: $(STAMP) ## Check a delivery against the contract without loading it (INPUT=folder DATE=)
	@$(LIFTLOOP) validate --input '$(INPUT)' $(if $(DATE),--date $(DATE))

approve: $(STAMP) ## With PROMOTION=approve: promote the proven candidate (HOME_DIR=)
	@$(LIFTLOOP) approve

recalibrate: $(STAMP) ## After a drift: calibrate the champion on recent nights, for the gate (SINCE= HOME_DIR=)
	@$(LIFTLOOP) recalibrate $(if $(SINCE),--since $(SINCE))

agent: $(STAMP) ## Train an agent that looks beyond the next week, for the gate (HOME_DIR=)
	@$(LIFTLOOP) agent

interactors: $(STAMP) ## What offers' effects depend on, and a policy tree of it (FAMILY= RELEVANCE= ENCODER= CANDIDATE=1 HOME_DIR=)
	@$(LIFTLOOP) interactors $(if $(FAMILY),--family '$(FAMILY)') $(if $(RELEVANCE),--relevance $(RELEVANCE)) $(if $(ENCODER),--encoder $(ENCODER)) $(if $(CANDIDATE),--candidate)

media-mix: $(STAMP) ## What bought media and messages add, and how to split their budget (HOME_DIR=)
	@$(LIFTLOOP) media-mix

rollback: $(STAMP) ## Take the champion back to the one before (VERSION= REASON= HOME_DIR=)
	@$(LIFTLOOP) rollback $(if $(VERSION),--version '$(VERSION)') $(if $(REASON),--reason '$(REASON)')

freeze: $(STAMP) ## Every following night is no-offer only (REASON= HOME_DIR=)
	@$(LIFTLOOP) freeze $(if $(REASON),--reason '$(REASON)')

unfreeze: $(STAMP) ## Lift the freeze (HOME_DIR=)
	@$(LIFTLOOP) unfreeze

restore: $(STAMP) ## Build a lost warehouse from the lake, lost lake partitions from landing (HOME_DIR=)
	@$(LIFTLOOP) restore

erase: $(STAMP) ## Erase a customer from landing, lake, warehouse and exports (CUSTOMER=id HOME_DIR=)
	@$(LIFTLOOP) erase --customer '$(CUSTOMER)'

plan-exploration: $(STAMP) ## How long to explore (EFFECT= SD= PER_WEEK= PROPENSITIES=no_offer=.4,a=.6)
	@$(LIFTLOOP) plan-exploration --effect $(EFFECT) --standard-deviation $(SD) --decisions-per-week $(PER_WEEK) --propensities $(PROPENSITIES)

world: $(STAMP) ## Write a simulated world's files (WORLD= OUT= DAYS= CUSTOMERS= TRUTH=1)
	@$(LIFTLOOP) world --world '$(or $(WORLD),bakery)' --out '$(OUT)' $(if $(DAYS),--days $(DAYS)) $(if $(CUSTOMERS),--customers $(CUSTOMERS)) $(if $(TRUTH),--truth)

loop: $(STAMP) ## Live the loop against oracle, rule, random (NIGHTS=30 WORLD=; SEEDS=20 many lives)
	@OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -W ignore -m benchmarks.studies.nightly_loop --nights $(NIGHTS) $(if $(WORLD),--world '$(WORLD)') $(if $(CUSTOMERS),--customers $(CUSTOMERS)) $(if $(SEEDS),--seeds $(SEEDS))

study-gate: $(STAMP) ## Judge intervals and the gate by known truths (QUICK=1: a minute)
	@OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -W ignore -m benchmarks.studies.gate $(if $(QUICK),--quick)

study-drift: $(STAMP) ## How soon drifts are noticed, what updates mend (SEEDS= PARTS=noticing,updates QUICK=1)
	@OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -W ignore -m benchmarks.studies.drift $(if $(SEEDS),--seeds $(SEEDS)) $(if $(PARTS),--parts $(PARTS)) $(if $(QUICK),--quick)

study-pacing: $(STAMP) ## Whether periods pay their budget, undisturbed and shocked (SEEDS=50 QUICK=1)
	@OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -W ignore -m benchmarks.studies.pacing $(if $(SEEDS),--seeds $(SEEDS)) $(if $(QUICK),--quick)

study-deciding: $(STAMP) ## What allocation brings with the same effects for all (SEEDS=20 QUICK=1)
	@OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -W ignore -m benchmarks.studies.deciding $(if $(SEEDS),--seeds $(SEEDS)) $(if $(QUICK),--quick)

study-forward: $(STAMP) ## One-step policy values against living by eight policies (SEEDS=10 QUICK=1)
	@OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -W ignore -m benchmarks.studies.forward $(if $(SEEDS),--seeds $(SEEDS)) $(if $(QUICK),--quick)

study-effects: $(STAMP) ## Judge selected heads against the truth (SEEDS=20; CAUSALML=its python)
	@OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -W ignore -m benchmarks.studies.effects $(if $(SEEDS),--seeds $(SEEDS)) $(if $(CAUSALML),--peers --causalml '$(CAUSALML)')

study-three-in-one: $(STAMP) ## The world model against the truth (SEEDS=20 CUSTOMERS=256 PARTS=seeds,large,histories,published QUICK=1)
	@OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -W ignore -m benchmarks.studies.three_in_one $(if $(SEEDS),--seeds $(SEEDS)) $(if $(CUSTOMERS),--customers $(CUSTOMERS)) $(if $(PARTS),--parts $(PARTS)) $(if $(QUICK),--quick)

study-media-mix: $(STAMP) ## The media mix against known truths (QUICK=1)
	@OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -W ignore -m benchmarks.studies.media_mix $(if $(QUICK),--quick)

study-agentic-marketing: $(STAMP) ## The agentic-marketing document's experiment, the bakery, rankings (SEEDS=5 PARTS= QUICK=1)
	@OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -W ignore -m benchmarks.studies.agentic_marketing $(if $(SEEDS),--seeds $(SEEDS)) $(if $(PARTS),--parts $(PARTS)) $(if $(QUICK),--quick)

study-tokens-to-policy: $(STAMP) ## Searches for what drives effects: false findings and power (PARTS=null,power,bakery,mails HILLSTROM= QUICK=1)
	@OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -W ignore -m benchmarks.studies.tokens_to_policy $(if $(PARTS),--parts $(PARTS)) $(if $(HILLSTROM),--hillstrom $(HILLSTROM)) $(if $(QUICK),--quick)

bench: $(STAMP) ## Measure speed (benchmarks/performance; CAUSALML=, OBP=, LP=, PYMC=their pythons); results: benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks.performance.world
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.performance.uplift $(if $(CAUSALML),--causalml '$(CAUSALML)')
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.performance.ope $(if $(OBP),--obp '$(OBP)')
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.performance.allocation $(if $(LP),--lp '$(LP)')
	@$(BIN)/python -m benchmarks.performance.streamed
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.performance.world_model
	@OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m benchmarks.performance.control
	@OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m benchmarks.performance.interactors
	@$(BIN)/python -m benchmarks.performance.media_mix $(if $(PYMC),--pymc '$(PYMC)')
	@$(BIN)/python -W ignore -m benchmarks.performance.nightly
	@$(BIN)/python -c 'import pyspark' 2>/dev/null && $(BIN)/python -W ignore -m benchmarks.performance.spark_parity || echo "spark_parity is left out: install the extra spark"

test: $(STAMP) ## Run the tests, two files at a time
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=20

test-slow: $(STAMP) ## Run the slow tests too: statistical recovery, nights killed at random (above an hour)
	@$(BIN)/python -m pytest -m 'slow or not slow'

check: $(STAMP) ## Lint, types, import directions, SQL: what CI runs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/sqlfluff lint --disable-progress-bar dbt_project/models dbt_project/tests

docs: $(STAMP) ## Build the documentation into site/
	@$(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html: documentation"

audit: $(STAMP) ## Ask PyPI whether a locked package has a known vulnerability (needs the network)
	@test -x .venv/audit/bin/pip-audit || { $(PYTHON) -m venv .venv/audit && .venv/audit/bin/pip install --quiet pip-audit==2.10.1; }
	@.venv/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

fix: $(STAMP) ## Mend what the linters can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

ui: $(STAMP) ## Open Dagster on localhost:3000 and MLflow on localhost:5000 (HOME_DIR=)
	@LIFTLOOP_HOME=$(abspath $(HOME_DIR)) $(BIN)/python -W ignore -m orchestration.ui

clean: ## Remove the state folders; .venv stays
	rm -rf .liftloop .liftloop-* site
