# Every target sets itself up: a Python 3.11 to 3.13, make and a way to PyPI are enough.
# Nothing is written outside this folder but by uv, to its cache, and by images and cluster-up: e2e/README.md says where.
.DEFAULT_GOAL := help
.PHONY: help setup example demo demo-releases test test-all check lint types contracts processes compat compat-original java-17 compat-table bench bench-operator format clean cluster-up cluster-down crds images protos

PYTHON ?= python3
# The uv on the PATH if there is one, else our own, taken from PyPI into .uv/.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .uv/bin/uv)
# A network with certificates of its own: trust what this machine trusts.
export UV_SYSTEM_CERTS ?= 1
BIN := .venv/bin
SYNCED := .venv/.synced

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: $(SYNCED)  ## make .venv with everything that the other targets need

$(SYNCED): pyproject.toml uv.lock operator/pyproject.toml runtime/pyproject.toml | $(UV)
	$(UV) sync --quiet --frozen --all-packages --all-extras
	@touch $@

.uv/bin/uv:
	@echo "uv is not here: taking it from PyPI into .uv/"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than 3.11: run make PYTHON=/path/to/a/newer/python3"; exit 1; }
	@# Debian's python3 comes without ensurepip; its pip can install into another environment.
	@$(PYTHON) -m venv .uv 2>/dev/null \
	  || { $(PYTHON) -m venv --clear --without-pip .uv && $(PYTHON) -m pip --version >/dev/null; } \
	  || { echo "$(PYTHON) has neither ensurepip nor pip: install python3-venv or uv"; rm -rf .uv; exit 1; }
	@if .uv/bin/python -m pip --version >/dev/null 2>&1; then .uv/bin/python -m pip install --quiet uv; \
	  else $(PYTHON) -m pip --python .uv/bin/python install --quiet uv; fi

example: setup  ## train the example's two versions and pack them into archives
	PATH="$(CURDIR)/$(BIN):$$PATH" examples/classifier/build.sh

demo: setup  ## train, serve, swap the version and kill a worker under load; ends by itself
	$(BIN)/python -B -m examples.classifier.demo

demo-releases: setup  ## a good release and a bad one: steps, analysis and rollback under load; ends by itself
	$(BIN)/python -B -m examples.releases.demo

test: lint types contracts  ## lint, types, import contracts, and every test that needs no Kubernetes
	$(BIN)/pytest
	@echo "left out: the tests on a real Kubernetes (tier 1: API server and controllers, tier 2: pods):"
	@echo "          make test-all runs them too, as root on Linux, and builds what it needs"

test-all: lint types contracts  ## everything that CI runs: the same, and a real Kubernetes (Linux, root; builds it)
	e2e/cluster/packages.sh
	e2e/images/packages.sh
	$(BIN)/python -B -m e2e.cluster build
	$(BIN)/python -B -m e2e.images
	$(BIN)/python -B -m e2e.everything

check: lint types contracts  ## the quick part of it: no test that starts processes
	$(BIN)/pytest -m "not process" -q

lint: setup  ## ruff: format and rules
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet

types: setup  ## mypy, strict
	$(BIN)/mypy

contracts: setup  ## import-linter: the directions of the house
	$(BIN)/lint-imports --no-logo

processes: setup  ## the tests that start real processes
	$(BIN)/pytest -m process

compat: setup  ## the rows of the TorchServe inventory, asked of this runtime
	$(BIN)/pytest tests/compat

compat-original: setup java-17 .venv-original/.installed  ## the same rows, asked of TorchServe itself (needs Java 17)
	$(BIN)/pytest tests/compat --target original
	@echo "clients made of TorchServe's own .proto files, asking this runtime:"
	PROTOS_OF=.venv-original $(BIN)/pytest -q tests/compat/test_s08_grpc.py

java-17:
	@java -version 2>&1 | grep -qE 'version "(1[7-9]|[2-9][0-9])' \
	  || { echo "no Java 17 or newer: install openjdk-17-jre-headless, or put another java on the PATH"; exit 1; }

# The torch, torchvision and captum of our lock: what handlers do shall differ by the server alone.
.venv-original/.installed: uv.lock | $(UV)
	$(UV) venv --quiet --clear --python 3.11 .venv-original
	$(UV) export --quiet --frozen --all-packages --all-extras --no-hashes --no-emit-workspace -o .venv-original/lock.txt
	$(UV) pip install --quiet --python .venv-original/bin/python --constraint .venv-original/lock.txt \
	  torchserve==0.12.0 torch-model-archiver torch-workflow-archiver torch torchvision captum pyyaml nvgpu requests
	@touch $@

compat-table: setup  ## write docs/torchserve-compatibility.md from tests/compat/inventory
	$(BIN)/python -B -m tests.compat.table

bench: setup  ## measure beside mosec, and the operator; prints tables (takes a while)
	$(BIN)/python -m bench
	$(BIN)/python -m bench.footprint
	$(BIN)/python -m bench.canaries
	$(BIN)/python -B -m bench.operator_cost

bench-operator: setup  ## only the operator, on a real Kubernetes (Linux, root; builds it)
	$(BIN)/python -B -m bench.operator_cost

crds: setup  ## write the CRD from the types: crds/, the chart's template, docs/fields.md
	mkdir -p crds charts/flambeau/templates
	$(BIN)/python -m flambeau_operator.resources.crd >crds/modeldeployments.serving.flambeau.dev.yaml
	$(BIN)/python -m flambeau_operator.resources.crd --helm >charts/flambeau/templates/crd.yaml
	$(BIN)/python -m flambeau_operator.resources.crd --fields >docs/fields.md

protos: setup  ## write the modules of the gRPC messages from runtime/…/grpc/protos/*.proto
	$(BIN)/python runtime/write_protos.py

format: setup  ## let ruff rewrite the files
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:  ## remove what the targets made: environments, caches, built archives
	rm -rf .venv .uv .ruff_cache .mypy_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf examples/classifier/build examples/classifier/wine-archives examples/classifier/wine-archives.yaml
	rm -rf examples/releases/review-archives examples/releases/review-archives.yaml
	rm -rf bench/build bench/.venv-* .venv-original
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

images:  ## build the images, with docker or as root with buildah; prints where their archives are
	@$(PYTHON) -B -m e2e.images

TIER ?= 2
NODES ?= 1
cluster-up:  ## a Kubernetes of its own to develop with; prints how to use it (TIER=1: control plane only; NODES=2)
	@$(PYTHON) -B -m e2e.cluster up --tier $(TIER) --nodes $(NODES)

cluster-down:  ## remove it and every trace
	@$(PYTHON) -B -m e2e.cluster down
