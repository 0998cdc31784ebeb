# What can be done here: `make` lists it. Settings, with examples:
#   make install CONDA=                     a .venv even where there is conda
#   make install BASE_PYTHON=python3.12     the Python that the .venv is made from
#   make mlm ARGS="--data adverts.csv --epochs 1"
#   make mlm CONFIG=configs/production/mlm.yaml
#   make test ARGS="-k splits"
#   make image IMAGE=ACCOUNT.dkr.ecr.REGION.amazonaws.com/jobs:1

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

NAME := ojd_daps_language_models
BASE_PYTHON ?= python3
# Once a .venv is made, it is used.
CONDA ?= $(if $(wildcard .venv/.python),,$(or $(CONDA_EXE),$(shell command -v conda)))

# Metaflow takes one of these names, which then is the same with and without make; root,
# and who has none, it refuses.
ifeq ($(filter-out root,$(METAFLOW_USER) $(SUDO_USER) $(USERNAME) $(USER)),)
export METAFLOW_USER := $(or $(filter-out root,$(shell id -un 2>/dev/null)),ojd)
endif

# --- Environment: done once, and again only when what it is made from has changed -----

ifeq ($(CONDA),)
STAMPS := .venv
PYTHON := .venv/bin/python
else
STAMPS := .install
PYTHON := $(CONDA) run --no-capture-output -n $(NAME) python
endif

PIP := $(PYTHON) -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements.txt)
TORCH_CPU := https://download.pytorch.org/whl/cpu
HAS_GPU = [ "$$(uname)" = Darwin ] || nvidia-smi -L >/dev/null 2>&1
REACHES = $(PYTHON) -c 'import signal, sys, urllib.request as web; \
	signal.alarm(3); web.urlopen(sys.argv[1])' >/dev/null 2>&1

.PHONY: install
install: $(STAMPS)/.development  ## Set up everything: conda environment or .venv, git hooks

$(STAMPS)/.python:
ifeq ($(CONDA),)
	@$(BASE_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, but $(BASE_PYTHON) is" \
		"$$($(BASE_PYTHON) --version 2>&1). Install one and name it:" \
		"make install BASE_PYTHON=python3.12" >&2; exit 1; }
	$(BASE_PYTHON) -m venv .venv
else
	mkdir -p $(STAMPS)
	$(PYTHON) --version 2>/dev/null || $(CONDA) create --yes -n $(NAME) \
		--override-channels -c conda-forge python=3.11 pip
endif
	@touch $@

# torch comes first: on PyPI its build for Linux brings several GB of CUDA along.
$(STAMPS)/.runtime: $(STAMPS)/.python requirements.txt setup.py environment.yaml
	@index=; if ! { $(HAS_GPU); } && $(REACHES) $(TORCH_CPU)/; \
	then index="--index-url $(TORCH_CPU)"; fi; \
	set -x; $(PIP) install $$index $(TORCH)
ifeq ($(CONDA),)
	$(PIP) install --editable .
else
	$(CONDA) env update -n $(NAME) -f environment.yaml
endif
	@$(PYTHON) -c 'import en_core_web_sm' 2>/dev/null \
		|| { $(REACHES) https://github.com \
			&& PIP_RETRIES=0 $(PYTHON) -m spacy download --quiet en_core_web_sm; } \
		|| echo "en_core_web_sm cannot be had here: sentences are split by rule instead"
	@touch $@

$(STAMPS)/.development: $(STAMPS)/.runtime requirements-dev.txt
	$(PIP) install -r requirements-dev.txt
	@if git rev-parse --git-dir >/dev/null 2>&1; \
	then set -x; $(PYTHON) -m pre_commit install \
		|| echo "no git hooks: run 'pre-commit run' before a commit"; fi
	@touch $@

# --- Flows: a target for each file in flows/ ------------------------------------------

FLOWS := $(subst _,-,$(patsubst flows/%_flow.py,%,$(wildcard flows/*_flow.py)))

.PHONY: demo $(FLOWS)
demo: mlm  ## Train on the shipped adverts, print the scores and where the report is

$(FLOWS): %: $(STAMPS)/.runtime
	$(PYTHON) flows/$(subst -,_,$*)_flow.py $(addprefix --config config ,$(CONFIG)) run $(ARGS)

.PHONY: runs models export publish
runs: $(STAMPS)/.runtime  ## List recent runs, and how to continue those that failed
	@$(PYTHON) -m $(NAME) runs $(ARGS)

models: $(STAMPS)/.runtime  ## List the models that were published, with run and scores
	@$(PYTHON) -m $(NAME) models

export: $(STAMPS)/.runtime  ## Write what a run publishes: RUN=MLMFlow/latest TO=folder
	@$(PYTHON) -m $(NAME) export $(RUN) $(TO)

publish: $(STAMPS)/.runtime  ## Publish the model of a run: RUN=MLMFlow/latest TO=OWNER/NAME
	@$(PYTHON) -m $(NAME) publish $(RUN) $(TO) $(ARGS)

# --- AWS ------------------------------------------------------------------------------

IMAGE ?= $(NAME)

.PHONY: image
image:  ## Build the image of jobs on AWS Batch, where there is Docker
	@command -v docker >/dev/null || { echo "Docker is needed to build an image:" \
		"https://docs.docker.com/engine/install" >&2; exit 1; }
	docker build --platform linux/amd64 --tag $(IMAGE) .

# --- Checks ---------------------------------------------------------------------------

# Tests of a file stay together, for they share what they prepare, and tests/conftest.py
# puts long files first.
PYTEST := $(PYTHON) -m pytest -n logical --maxprocesses 4 --dist loadscope \
	--no-loadscope-reorder --durations 10

.PHONY: test test-all lint docs scores benchmark benchmark-gpu
test: $(STAMPS)/.development  ## Run the tests that are quick
	$(PYTEST) -m "not slow and not every_flow" $(ARGS)

test-all: $(STAMPS)/.development  ## Run all tests
	$(PYTEST) $(ARGS)

lint: $(STAMPS)/.development  ## Check style and format
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check .
	$(PYTHON:python=hadolint) Dockerfile

docs: $(STAMPS)/.development  ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

scores: $(STAMPS)/.development  ## Run every flow on its sample, for the tables in docs/
	$(PYTHON) docs/sample_scores.py $(ARGS)

benchmark: $(STAMPS)/.development  ## Measure speed against peers: benchmarks/RESULTS.md
	$(PYTHON) benchmarks/run_all.py $(ARGS)

benchmark-gpu: $(STAMPS)/.development  ## The same of training on a GPU: RESULTS_GPU.md
	$(PYTHON) benchmarks/run_all.py --gpu $(ARGS)

.PHONY: help
help:  ## List what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-24s%s\n", $$1, $$2 }' Makefile
	@for flow in $(FLOWS); do awk -F '"""' -v flow=$$flow \
		'NR == 1 { printf "%-24s%s\n", flow, $$2 }' flows/$${flow//-/_}_flow.py; done
