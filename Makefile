.DEFAULT_GOAL := help
PYTHON ?= python
MINUTES ?= 10
SEED ?= 1
PARALLEL = -n logical --maxprocesses 4 --dist worksteal

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

test: ## The fast tests, one to two minutes
	$(PYTHON) -m pytest $(PARALLEL)

test-ci: ## Those, and all with real processes and signals that take less than two minutes
	$(PYTHON) -m pytest $(PARALLEL) -m "not long" --durations=15

test-all: ## All tests: chaos and Ray, too, and real FER2013 where FER_SHARED or ../shared has it
	$(PYTHON) -m pytest $(PARALLEL) -m "slow or not slow" --durations=15

lint: ## Format, lint and types
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

demo: ## A 3-trial search on synthetic faces
	mlflow run . -e demo --env-manager local

chaos: ## Injure a search at random, resume it, audit it: make chaos MINUTES=10 SEED=1 OUT=DIR
	PYTHONPATH=. $(PYTHON) tests/chaos --minutes $(MINUTES) --seed $(SEED) --out $(OUT)

.PHONY: help test test-ci test-all lint demo chaos
