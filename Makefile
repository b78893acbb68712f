# RepServe's make targets; CI, pre-commit and people call the same ones.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PYTEST := HYPOTHESIS_PROFILE=$(or $(HYPOTHESIS_PROFILE),ci) $(BIN)/python -m pytest tests
# Modules stay together, because their tests share servers; the long ones, which are the first, are begun first.
PARALLEL := $(PYTEST) --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
    $(if $(COVERAGE),--cov --cov-append --cov-report=)
# Both, also when the first fails.
parallel-then-serial = status=0; $(PARALLEL) -m "$1 and not serial" || status=$$?; $(PYTEST) -m "$1 and serial" || status=$$?; exit $$status

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-slow test-all coverage test-convert lint format protos dashboards metrics-docs previews bench overload planner digits lock clean

help:  ## Show this list
	@awk -F':.*## ' '/^[.a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: .venv/installed  ## Everything but torch, in .venv
.venv/installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing RepServe into .venv (server, bench, dev) ..."
	@$(PIP) --constraint constraints.txt --editable '.[server,onnxruntime,bench,report,mlperf,traces,dev]'
	@touch $@

.venv/installed-convert: .venv/installed
	@echo "Adding torch to .venv (convert) ..."
	@$(PIP) --constraint constraints.txt --editable '.[server,onnxruntime,bench,report,mlperf,traces,dev,convert]'
	@touch $@

demo: .venv/installed  ## Serve real images, replay a labelled set, print the guide's table
	@$(BIN)/python tools/demo.py

serve: .venv/installed  ## Run the server on the bundled model repository
	@$(BIN)/repserve serve --model-repository model_repo --device cpu

test: .venv/installed  ## The tests but the slow ones and those that need torch; six minutes on two cores
	@$(call parallel-then-serial,not slow and not convert)

test-slow: .venv/installed  ## The slow tests: long runs, studies, whole pages of the documentation
	@$(call parallel-then-serial,slow and not convert)

test-all: test test-slow  ## `make test`, then `make test-slow`

coverage: .venv/installed  ## `make test`, and how much of the code it ran in its own processes
	@rm -f .coverage
	@$(MAKE) --no-print-directory test COVERAGE=yes
	@$(BIN)/python -m coverage report

test-convert: .venv/installed-convert  ## The tests of weight conversion and of the model card (adds torch)
	@$(PARALLEL) -m convert

lint: .venv/installed  ## ruff, mypy --strict, and whether generated files are up to date
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python tools/generate_protos.py --check
	@$(BIN)/python tools/generate_dashboards.py --check
	@$(BIN)/python tools/generate_metrics_docs.py --check

format: .venv/installed  ## Format the code with ruff
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

protos: .venv/installed  ## Generate the gRPC stubs from protos/
	@$(BIN)/python tools/generate_protos.py

dashboards: .venv/installed  ## Generate the Grafana dashboards from tools/dashboards/
	@$(BIN)/python tools/generate_dashboards.py

metrics-docs: .venv/installed  ## Generate docs/metrics.md from the code and from deploy/
	@$(BIN)/python tools/generate_metrics_docs.py

previews: .venv/installed  ## Redraw the pictures in docs/: demo, web page, dashboards (needs Prometheus, Chromium)
	@PYTHONPATH=tests $(BIN)/python tools/preview_readme.py
	@PYTHONPATH=tests $(BIN)/python tools/preview_dashboards.py

bench: .venv/installed  ## Measure the figures of docs/performance.md on this machine (IMAGES=folder of photos)
	@$(BIN)/python tools/performance.py $(if $(IMAGES),--images "$(IMAGES)")

overload: .venv/installed  ## Offer a server five times its capacity; report what it answers and refuses
	@$(BIN)/python tools/overload.py

planner: .venv/installed  ## Simulate the planner and other policies; rewrite docs/planner.svg and its tables
	@$(BIN)/python -m planning.study

digits: .venv/installed-convert  ## Retrain the bundled digits model (adds torch)
	@$(BIN)/python -m digits.train --into model_repo/repvgg_digits

lock: .venv/installed  ## Update constraints.txt; UPGRADE=--upgrade takes the newest versions that fit
	@cp constraints.txt constraints.new
	@$(BIN)/python -m piptools compile --quiet --strip-extras --all-extras --no-annotate --no-header $(UPGRADE) \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file constraints.new pyproject.toml
	@{ echo '# Exact versions of everything, for repeatable installs; made by `make lock`.'; \
	    grep -v '^#' constraints.new | sed 's/+cpu$$//' | grep .; } > constraints.txt
	@rm constraints.new

clean:  ## Remove what the other targets created, but no models
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis report.json .coverage constraints.new performance.json
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
