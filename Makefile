# make up [STACK=dev] [AT=2026-11-23T09:00:00Z] [FAULT=crash]   make preview [STACK=prod]   make down   make test
STACK ?=
SANDBOX ?= lab
AT ?=
FAULT ?=

BIN := .venv/bin
SANDBOX_RUN := $(BIN)/python -m sandbox
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help up preview down status test check nightly format schemas lock venv

help:
	@sed -n '1s/^# //p' Makefile

venv:
	@sandbox/bootstrap

up: venv
	@$(SANDBOX_RUN) up --name "$(SANDBOX)" $(if $(STACK),--stack "$(STACK)") $(if $(AT),--at "$(AT)") $(if $(FAULT),--fault "$(FAULT)")

preview: venv
	@$(SANDBOX_RUN) preview --name "$(SANDBOX)" $(if $(STACK),--stack "$(STACK)")

down: venv
	@$(SANDBOX_RUN) down --name "$(SANDBOX)"

status: venv
	@$(SANDBOX_RUN) status --name "$(SANDBOX)"

check: venv
	ruff format --check .
	ruff check .
	mypy
	lint-imports --no-cache
	ANSIBLE_CONFIG=$(CURDIR)/playbooks/ansible.cfg ansible-lint -q playbooks
	check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
	pytest tests/unit -n 2 --dist loadfile

test: venv
	@$(SANDBOX_RUN) tools
	@$(MAKE) --no-print-directory check
	pytest tests/engine tests/lab

# The long rehearsals, and properties with thousands of examples.
nightly: venv
	@$(SANDBOX_RUN) tools
	HYPOTHESIS_PROFILE=nightly pytest tests/unit -n 2 --dist loadfile
	pytest tests/nightly

format: venv schemas
	ruff format .
	ruff check --fix .

schemas: venv
	python -m patchwave.cli.schema

lock:
	uv pip compile --quiet --universal --generate-hashes --no-header pyproject.toml --group pyproject.toml:dev --group pyproject.toml:sandbox -o requirements.lock
