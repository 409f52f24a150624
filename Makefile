# One word each. `make setup` is all that a fresh machine needs (Python 3.11+, git, make); everything else calls it.
.PHONY: quickstart setup labels test test-all system check bench docs site lock

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What `make test` may skip: `auto` skips what is not installed and says how to get it; `all` makes a skip a failure.
REQUIRE ?= auto

## quickstart: real X-rays, then the quickstart study on made data, then where to look
quickstart: setup
	$(BIN)/orchestrate submit sweeps/real_xrays.yaml --wait
	$(BIN)/orchestrate submit sweeps/quickstart.yaml --wait
	@$(BIN)/orchestrate report sweeps/quickstart.yaml
	@echo "To compare the draws in the MLflow UI: $(BIN)/orchestrate ui"

## setup: the locked environment in .venv
setup: $(VENV)/.ready
$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d: make setup PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

# The label files of real releases, which readers are held against: for tests alone.
labels: $(VENV)/.labels
$(VENV)/.labels: tests/labels.txt $(VENV)/.ready
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r tests/labels.txt
	@touch $@

# These start schedulers, servers and browsers, in two streams (tests/conftest.py): a Slurm that mostly waits, and all else that takes both
# cores itself. All other tests share the cores.
STREAMS := tests/browser tests/e2e tests/slurm
# A worker that dies ends the run: what it left undone would not be taken up by another, and the run would wait for it.
WORKERS := -n 2 --max-worker-restart 0
# Files in the order of their folders: the file of the longest tests would else come last, beside nothing.
SIDE_BY_SIDE := $(WORKERS) --dist loadfile --no-loadscope-reorder tests $(STREAMS:%=--ignore=%)
IN_STREAMS := $(WORKERS) --dist loadgroup $(STREAMS)

## test: what CI runs; REQUIRE=all turns a skip into a failure
test: setup labels check
	$(BIN)/python -m pytest --require=$(REQUIRE) $(SIDE_BY_SIDE)
	$(BIN)/python -m pytest --require=$(REQUIRE) $(IN_STREAMS)

## test-all: the slow statistics and the whole fault-injection sets too, which also write their section of docs/benchmarks.md
test-all: setup labels check
	$(BIN)/python -m pytest --require=$(REQUIRE) --slow $(SIDE_BY_SIDE)
	BENCHMARKS=docs/benchmarks.md $(BIN)/python -m pytest --require=$(REQUIRE) --slow $(IN_STREAMS)

## check: style, types, walls, generated files
check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

## bench: measure what docs/benchmarks.md claims, and write it there with the machine
bench: setup
	$(BIN)/python -m tests.bench

## docs: the pages that are written from the code
docs: setup
	$(BIN)/python -m orchestrator.reference > docs/reference.md
	$(BIN)/python -m orchestrator.reference presets > docs/presets.md
	$(BIN)/python -m orchestrator.json_page > docs/json.md
	$(BIN)/python -m orchestrator.measure_page > docs/measures.md
	$(BIN)/python -m orchestrator.man_page > docs/orchestrate.1
	$(BIN)/python -m orchestrator.method_page docs/methods
	$(BIN)/python -m orchestrator.schema > sweeps/schema.json

## site: the documentation as a site in site/, which opens without a server
site: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

## screenshots: the pictures of MLflow in docs/images, taken in Chromium from the real UI by the tests of it
screenshots: setup
	SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/browser/test_mlflow_ui.py

## system: Debian packages that some tests need (root)
# Nothing may start a service of its own: the tests start what they need, and a container has no systemd to ask.
POLICY := /usr/sbin/policy-rc.d
system:
	apt-get update -qq
	if [ ! -e $(POLICY) ]; then trap 'rm -f $(POLICY)' EXIT; printf '#!/bin/sh\nexit 101\n' > $(POLICY) && chmod +x $(POLICY); fi; \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	  chromium fonts-dejavu-core postgresql r-cran-proc slurm-wlm slurmdbd munge mariadb-server tmux \
	  poppler-utils texlive-latex-base texlive-latex-recommended

## lock: compile requirements.lock, what benches run beside, and the label files for tests, from pyproject.toml
lock: setup
	$(BIN)/uv pip compile pyproject.toml --quiet --extra lite0 --group dev --group docs --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links -o requirements.lock
	$(BIN)/uv pip compile --quiet --group bench --constraint requirements.lock --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links -o tests/bench/hydra.txt
	$(BIN)/uv pip compile --quiet --group lightly --no-deps --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links -o tests/bench/lightly.txt
	$(BIN)/uv pip compile --quiet --group labels --no-deps --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links -o tests/labels.txt
