# Everything one does with Usercast, a target each; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
export USERCAST_BASE_PORT ?= 8000
RATE ?= 5
export KILLS ?= 30
export STACK ?= embedded

VENV := .venv
LOCALSTACK := .venv-localstack
CHECKOV := .venv-checkov
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Compiled modules halve the start of a process, of which each target has dozens; some machines turn
# them off.
unexport PYTHONDONTWRITEBYTECODE

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes
LOCKS := master-service/requirements.txt client-service/requirements.txt requirements/dev.txt
PACKAGES := shared master-service client-service
INSTALLED := $(PACKAGES) compose
TEMPLATES := master-service/usercast_master client-service/usercast_client

# Settings that load without any server, for tools that only read the code.
TOOL_ENV := DATABASE_URL=postgres://nobody@127.0.0.1/none REDIS_URL=redis://127.0.0.1/0 \
	SECRET_KEY=for-tools-only ALLOWED_ORIGINS=http://127.0.0.1 USERCAST_CLIENT=tools \
	USERCAST_TOPIC_ARN=arn:aws:sns:eu-west-1:000000000000:usercast-users AWS_DEFAULT_REGION=eu-west-1
# Settings of production, as far as Django's deployment checks look at them.
DEPLOY_ENV := $(TOOL_ENV) ALLOWED_HOSTS=usercast.example \
	SECRET_KEY=for-deployment-checks-only-0123456789-abcdefghijklmnopqrstuvwxyz

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: demo
demo: $(VENV)/.ready $(LOCALSTACK)/.ready ## Run the whole system: a master and the clients billing and support
	@exec python -m embedded.demo

.PHONY: traffic
traffic: $(VENV)/.ready ## Make random changes in the running demo (RATE=5 a second), until ctrl-C
	@RATE=$(RATE) exec python -m embedded.traffic

.PHONY: client
client: $(VENV)/.ready ## Add a client to the running demo and run it (NAME=warehouse), until ctrl-C
	@exec python -m embedded.client

.PHONY: test
test: $(VENV)/.ready $(LOCALSTACK)/.ready ## Run the tests of the three packages, against servers of their own
	@for package in $(PACKAGES); do echo "== $$package"; (cd $$package && python -m pytest -n 2 --dist loadfile); done

.PHONY: e2e
e2e: $(VENV)/.ready $(if $(filter compose,$(STACK)),,$(LOCALSTACK)/.ready) ## Run the end-to-end tests, with a real browser (STACK=compose: on containers)
	@$(if $(filter compose,$(STACK)),infra/images/build)
	@cd tests-e2e && python -m pytest -m "not static"

.PHONY: chaos
chaos: $(VENV)/.ready $(LOCALSTACK)/.ready ## Kill, stop and cut off everything at random under load, and look for loss (KILLS=30, SEED=…)
	@cd tests-e2e && exec python -m chaos

.PHONY: bench
bench: $(VENV)/.ready $(LOCALSTACK)/.ready ## Measure speed, cost and latency on the real system (PARTS="save backlog cost …")
	@cd tests-e2e && exec python -m bench $(PARTS)

.PHONY: lint
lint: $(VENV)/.ready ## Check style, types, architecture and templates
	ruff check .
	ruff format --check .
	lint-imports --no-logo
	env $(TOOL_ENV) DJANGO_SETTINGS_MODULE=usercast_master.settings mypy -p usercast -p usercast_master -p embedded
	env $(TOOL_ENV) DJANGO_SETTINGS_MODULE=usercast_client.settings mypy -p usercast_client
	djlint --configuration pyproject.toml --quiet --check $(TEMPLATES)
	djlint --configuration pyproject.toml --quiet --lint $(TEMPLATES)
	yamllint --strict infra compose tests-e2e .pre-commit-config.yaml
	cd master-service && env $(TOOL_ENV) python -W ignore manage.py makemigrations --check --dry-run
	cd client-service && env $(TOOL_ENV) python -W ignore manage.py makemigrations --check --dry-run
	cd master-service && env $(DEPLOY_ENV) python -W ignore manage.py check --deploy --fail-level WARNING
	cd client-service && env $(DEPLOY_ENV) python -W ignore manage.py check --deploy --fail-level WARNING

.PHONY: lint-infra
lint-infra: $(VENV)/.ready $(CHECKOV)/.ready ## Check what deploys: images, scripts, nginx, CloudFormation, Kubernetes
	hadolint */Dockerfile infra/nginx/Dockerfile
	shellcheck --external-sources --check-sourced $$(grep -rlIE '^#!.*sh$$' .ci compose infra shared/run)
	cfn-lint --regions eu-west-1 us-east-1 -- infra/aws/*.yaml infra/ec2/*.yaml infra/ecr/*.yaml
	check-jsonschema --builtin-schema vendor.compose-spec compose/*.yaml infra/swarm/*.yaml infra/lab/*.yaml
	rm -rf .lint && mkdir -p .lint/nginx .lint/k8s
# nginx as in a container, with what `start` writes and a site's own part. host_spoofing: Django is who
# refuses a Host that is not its own, and it needs the port, which nginx's $host leaves out.
	cp infra/nginx/*.conf infra/swarm/site.conf .lint/nginx
	sed -i 's|/tmp/trusted|trusted|' .lint/nginx/nginx.conf
	sed 's|/tmp/||; /^exec /d' infra/nginx/start | (cd .lint/nginx && TRUSTED_HOP=10.0.0.0/16 sh)
	gixy --skips host_spoofing .lint/nginx/nginx.conf
	for part in overlays/{staging,production} components/external-secrets observability; do \
	  kubectl kustomize infra/k8s/$$part >.lint/k8s/$${part##*/}.yaml; done
	$(CHECKOV)/bin/checkov --config-file infra/k8s/.checkov.yaml \
	  --file .lint/k8s/{staging,production,external-secrets}.yaml
	$(CHECKOV)/bin/checkov --config-file infra/k8s/observability/.checkov.yaml --file .lint/k8s/observability.yaml
	cd tests-e2e && python -m pytest -m static

.PHONY: format
format: $(VENV)/.ready ## Rewrite code and templates in the project's format
	ruff check --fix .
	ruff format .
	djlint --configuration pyproject.toml --quiet --reformat $(TEMPLATES) || true

.PHONY: schema
schema: $(VENV)/.ready ## Write the JSON Schema of the wire contract anew
	python -m usercast.contract

.PHONY: screenshots
screenshots: $(VENV)/.ready $(LOCALSTACK)/.ready ## Take the pictures in docs/images anew, of a system started for them
	@exec python -m embedded.screenshots

.PHONY: images
images: ## Build the images with Docker: master, client, and nginx for each
	@infra/images/build

.PHONY: sbom
sbom: $(VENV)/.ready images ## Write what is in each image, Debian's and Python's packages (CycloneDX, in dist/sbom)
	@tag=$$(infra/images/build --tag) && python infra/images/sbom.py \
	  usercast-{master,client}{,-nginx}:$$tag

.PHONY: compose
compose: images ## Run the whole system with Docker, in the background (compose/compose.yaml says more)
	@docker compose --file compose/compose.yaml up --detach --wait
	@docker compose --file compose/compose.yaml run --rm logins

.PHONY: lab
lab: $(VENV)/.ready ## Build and run with Docker what infra holds, and look that all is as it must be (PARTS=…)
	@infra/lab/verify.sh $(PARTS)

.PHONY: lock
lock: $(VENV)/.ready ## Renew every lock file
	for service in master client; do \
	  $(COMPILE) --upgrade --no-emit-package usercast -o $$service-service/requirements.txt \
	    $$service-service/pyproject.toml; done
	$(COMPILE) --upgrade --no-emit-package usercast -o requirements/dev.txt \
	  --group client-service/pyproject.toml:development \
	  master-service/pyproject.toml client-service/pyproject.toml requirements/dev.in
	for tool in uv build checkov; do \
	  $(COMPILE) --upgrade -o requirements/$$tool.txt requirements/$$tool.in; done
	$(COMPILE) --upgrade --exclude-newer 2026-02-25 -o requirements/localstack.txt requirements/localstack.in

.PHONY: clean
clean: ## Stop a demo and remove all its state
	@if [ -x $(BIN)/python ]; then python -m embedded.clean; fi
	@rm -rf .bench .chaos .lint

.PHONY: distclean
distclean: clean ## Remove the development environments too
	rm -rf $(VENV) $(LOCALSTACK) $(CHECKOV)

$(BIN)/uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "usercast: Python 3.11 or newer is needed; name it with make PYTHON=python3.13 …" >&2; exit 1; }
	@echo "Making the development environment in $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/.ready: $(BIN)/uv requirements/dev.txt $(INSTALLED:%=%/pyproject.toml)
	@echo "Installing what the services, the tests and the tools need …"
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements/dev.txt
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python $(INSTALLED:%=-e %)
	@touch $@

$(LOCALSTACK)/.ready: $(BIN)/uv requirements/localstack.txt
	@echo "Installing LocalStack into $(LOCALSTACK) …"
	@$(PYTHON) -m venv --without-pip $(LOCALSTACK)
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(LOCALSTACK)/bin/python requirements/localstack.txt
	@touch $@

$(CHECKOV)/.ready: $(BIN)/uv requirements/checkov.txt
	@echo "Installing checkov into $(CHECKOV) …"
	@$(PYTHON) -m venv --without-pip $(CHECKOV)
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(CHECKOV)/bin/python requirements/checkov.txt
	@touch $@
