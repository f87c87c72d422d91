# Gestalt: make without a target lists the targets.  Every command also runs as .venv/bin/gestalt, which has the rest: gestalt --help.
PYTHON ?= python3
VENV   ?= .venv
EXP    ?=
SCALE  ?= demo
GRID   ?= aggregation_by_init
SEEDS  ?= 1
JOBS   ?=
CKPT   ?= $(EXP)
BENCH  ?=
PROTOCOL ?=
RUNS   ?= $(CKPT)
IMAGE  ?=
LABELS ?=
WORKERS ?= logical
ARGS   ?=
# of PyPI, with CUDA, unless .venv has a build of these versions already, such as pytorch.org's for CPUs
TORCH   = "torch>=2.13,<2.14" "torchvision>=0.28,<0.29"
PIP     = $(VENV)/bin/python -P -m pip install --quiet --disable-pip-version-check
LOCK    = setup.cfg --extra demo --extra dev --extra docs --extra onnx --universal --python-version 3.11
RUN     = $(VENV)/bin/python -P -m gestalt
READY   = $(VENV)/.gestalt-installed
PYTEST  = $(VENV)/bin/python -P -m pytest
SPREAD  = -n $(WORKERS) --maxprocesses 8 --dist worksteal
REST    = -m "$(if $(filter check,$(MAKECMDGOALS)),(slow or gpu) and )not nightly"
QUICK   = -m "not slow and not gpu and not nightly"

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12
	@echo 'variables: EXP=clippy_dino_max SCALE=demo|photos|cc12m GRID=aggregation SEEDS=3 JOBS=2 CKPT=path BENCH=pascal_voc PROTOCOL=mmseg-448 RUNS="run run" ARGS="key=value ..." PYTHON=python3.12 VENV=.venv WORKERS=2'

$(READY): setup.cfg pyproject.toml requirements.lock
	test -x $(VENV)/bin/python || $(PYTHON) -I -m venv $(VENV)
	@echo "installing the packages of requirements.lock in $(VENV), 1.2 GB, a minute or two"
	$(PIP) --require-hashes --only-binary :all: --no-deps -r requirements.lock
	@echo "installing torch, unless it is there"
	$(PIP) $(TORCH)
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

setup: $(READY) ## create or update .venv, with the versions of requirements.lock

lock: $(READY) ## write requirements.lock for setup.cfg; ARGS=--upgrade takes the newest versions
	$(PIP) uv==0.13.9
	printf 'torch\ntorchvision\n' | $(VENV)/bin/uv --no-config pip compile $(LOCK) --excludes /dev/stdin --generate-hashes --no-annotate --custom-compile-command "make lock" --quiet -o requirements.lock $(ARGS)

train: $(READY) ## train an experiment: make train EXP=clippy_dino_max [SCALE=demo] [ARGS="trainer.devices=1"]
	@test -n "$(EXP)" || { echo "EXP= is missing; experiments: $$(ls experiments/*.yaml | xargs -n1 basename | sed 's/.yaml//' | tr '\n' ' ')"; exit 2; }
	$(RUN) train $(EXP) --scale $(SCALE) $(ARGS)

ablate: $(READY) ## run a grid and compare its cells: make ablate [GRID=aggregation_by_init] [SEEDS=3] [JOBS=2] [ARGS="--dry-run"]
	$(RUN) ablate $(GRID) --scale $(SCALE) --seeds $(SEEDS) $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

eval: $(READY) ## score a checkpoint: make eval CKPT=... [BENCH=pascal_voc,ade20k] [PROTOCOL=mmseg-448/tcl] [ARGS="--sizes 224,336"]
	$(RUN) eval $(CKPT) $(if $(BENCH),"evaluation.benchmarks=[$(BENCH)]") $(if $(PROTOCOL),evaluation.protocol=$(PROTOCOL)) $(ARGS)

segment: $(READY) ## colour pictures by labels: make segment IMAGE=photo.jpg LABELS="dog, cat" CKPT=... [ARGS="--to DIR --html page.html"]
	$(RUN) segment $(IMAGE) --labels "$(LABELS)" --model $(CKPT) $(ARGS)

report: $(READY) ## write results as one HTML page: make report RUNS="RUN RUN/evaluations/0.json" [ARGS="--output report.html"]
	$(RUN) report $(RUNS) $(ARGS)

board: $(READY) ## open TensorBoard on lightning_logs
	$(VENV)/bin/tensorboard --logdir lightning_logs

test: $(READY) ## run the quick tests; WORKERS=0 runs them in one process
	$(PYTEST) $(QUICK) $(SPREAD) $(ARGS)

test-all: $(READY) ## run every test but the nightly ones; in one call with check, only the slow and GPU tests
	$(PYTEST) $(REST) $(SPREAD) $(ARGS)

nightly: $(READY) ## run the long checks: planted bugs, coverage of intervals, examples, faults
	$(PYTEST) -m nightly $(SPREAD)
	$(PYTEST) -k "notebook or example or plugin_terms" $(SPREAD)
	$(VENV)/bin/python -P -c 'import sys; sys.path.append("."); from tests.chaos.__main__ import main; sys.exit(main())'

lint: $(READY) ## check lint, format and types
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

check: lint ## check lint, format and types, and run the quick tests
	$(PYTEST) $(QUICK) $(SPREAD)

fix: $(READY) ## fix lint and format
	$(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

bench: $(READY) ## time training, evaluation and loading against a plain implementation (GESTALT_DATA=DIR for photographs)
	$(VENV)/bin/python tests/bench $(ARGS)

gpu: $(READY) ## run the tests that need an NVIDIA GPU, then print one page of benchmarks for an issue
	$(PYTEST) -m gpu $(ARGS)
	$(VENV)/bin/python tests/bench --page --only gpu evaluation loading

docs: $(READY) ## build the pages as a site with search, build/site/index.html
	$(VENV)/bin/python -P -m sphinx --quiet --fail-on-warning --keep-going docs build/site $(ARGS)

.PHONY: help setup lock train ablate eval segment report board test test-all nightly lint check fix bench gpu docs
