# Gestalt: each target is one call of the command line.  make without a target lists them.
PYTHON ?= python3
VENV   ?= .venv
EXP    ?=
SCALE  ?= demo
INIT   ?= dino
GRID   ?= aggregation_by_init
SEEDS  ?= 1
JOBS   ?=
CKPT   ?= $(EXP)
MODEL  ?= $(CKPT)
BENCH  ?=
DIR    ?=
PROTOCOL ?=
SIZES  ?=
PROTOCOLS ?=
CALIBRATE ?=
RUNS   ?= $(CKPT)
IMAGE  ?=
LABELS ?=
TO     ?=
LICENSE ?=
GROUPS ?= 8
TOOL   ?= inspect
SOURCE ?=
KIND   ?=
NAME   ?=
WORKERS ?= logical
ARGS   ?=
RUN     = $(VENV)/bin/python -m gestalt
READY   = $(VENV)/.gestalt-installed
PYTEST  = $(VENV)/bin/python -m pytest
SPREAD  = -n $(WORKERS) --maxprocesses 8 --dist worksteal
REST    = -m "$(if $(filter check,$(MAKECMDGOALS)),(slow or gpu) and )not nightly"
QUICK   = -m "not slow and not gpu and not nightly"

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12
	@echo 'variables: EXP=clippy_dino_max SCALE=demo|photos|cc12m INIT=dino GRID=aggregation SEEDS=3 JOBS=2 CKPT=path RUNS="run run" BENCH=pascal_voc DIR=maps PROTOCOL=mmseg-448 SIZES=224,336 CALIBRATE=pascal_voc TOOL=inspect SOURCE=tars ARGS="key=value ..." PYTHON=python3.12 VENV=.venv WORKERS=2'

$(READY): setup.cfg pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	touch $@

setup: $(READY) ## create or update .venv

named:
	@test -n "$(EXP)" || { echo "EXP= is missing; experiments: $$(ls experiments/*.yaml | xargs -n1 basename | sed 's/.yaml//' | tr '\n' ' ')"; exit 2; }

train: named $(READY) ## train an experiment: make train EXP=clippy_dino_max [SCALE=demo] [ARGS="trainer.devices=1"]
	$(RUN) train $(EXP) --scale $(SCALE) $(ARGS)

features: named $(READY) ## cache what frozen towers make of a run's pairs: make features EXP=clippy_supervised_max TO=DIR ARGS="image.frozen=true data.crops=1" [SCALE=demo]
	$(RUN) features $(EXP) --scale $(SCALE) $(if $(TO),--to $(TO)) $(ARGS)

pretrain: $(READY) ## pretrain an image tower where no weights can be downloaded: make pretrain INIT=dino|supervised [SCALE=demo]
	$(RUN) pretrain --init $(INIT) --scale $(SCALE) $(ARGS)

ablate: $(READY) ## run a grid and compare its cells: make ablate [GRID=aggregation_by_init] [SEEDS=3] [JOBS=2] [ARGS="--dry-run"]
	$(RUN) ablate $(GRID) --scale $(SCALE) --seeds $(SEEDS) $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

eval: $(READY) ## score a checkpoint: make eval CKPT=... or MODEL=open_clip:DIR [BENCH=pascal_voc,ade20k] [PROTOCOL=mmseg-448/tcl] [SIZES=224,336] [PROTOCOLS=all] [CALIBRATE=pascal_voc]
	$(RUN) eval $(MODEL) $(if $(BENCH),"evaluation.benchmarks=[$(BENCH)]") $(if $(PROTOCOL),evaluation.protocol=$(PROTOCOL)) $(if $(SIZES),--sizes $(SIZES)) $(if $(PROTOCOLS),--protocols $(PROTOCOLS)) $(if $(CALIBRATE),--calibrate $(CALIBRATE)) $(ARGS)

reproduce: $(READY) ## score a published number again: make reproduce [NAME=sclip/voc21] ARGS="benchmark_root=DIR"
	$(RUN) reproduce $(NAME) $(ARGS)

score: $(READY) ## score label maps of any system: make score DIR=maps BENCH=pascal_voc ARGS="benchmark_root=DIR"
	$(RUN) score $(DIR) $(if $(BENCH),--bench $(BENCH)) $(ARGS)

export: $(READY) ## write a run as a folder that loads anywhere: make export CKPT=... TO=DIR [LICENSE=apache-2.0] [ARGS="--onnx FILE"]
	$(RUN) export $(MODEL) $(if $(TO),--to $(TO)) $(if $(LICENSE),--license $(LICENSE)) $(ARGS)

segment: $(READY) ## colour pictures by labels: make segment IMAGE=photo.jpg LABELS="dog, cat" CKPT=... or MODEL=open_clip:DIR [ARGS="--to DIR --html page.html"]
	$(RUN) segment $(IMAGE) --labels "$(LABELS)" --model $(MODEL) $(ARGS)

group: $(READY) ## divide pictures into groups without labels: make group IMAGE=photo.jpg MODEL=... [GROUPS=8] [ARGS="--to DIR --html page.html"]
	$(RUN) group $(IMAGE) --groups $(GROUPS) --model $(MODEL) $(ARGS)

data: $(READY) ## inspect, pack or show training data: make data TOOL=inspect|pack|show SOURCE=tars ARGS="data.root=DIR"
	$(RUN) data $(TOOL) $(SOURCE) $(ARGS)

list: $(READY) ## list all names that can be chosen: make list [KIND=benchmarks]
	$(RUN) list $(KIND)

compare: $(READY) ## show results side by side: make compare RUNS="clippy_dino_max RUN/evaluations/0.json" [ARGS="--metric miou --csv"]
	$(RUN) compare $(RUNS) $(ARGS)

report: $(READY) ## write results as one HTML page: make report RUNS="RUN RUN/evaluations/0.json" [ARGS="--output report.html"]
	$(RUN) report $(RUNS) $(ARGS)

vocabulary: $(READY) ## check the phrases that name classes for duplicates, stray blanks and near-ties: make vocabulary [ARGS="--list sclip"]
	$(RUN) vocabulary $(ARGS)

board: $(READY) ## open TensorBoard on lightning_logs
	$(VENV)/bin/tensorboard --logdir lightning_logs

bench: $(READY) ## time training, scenes, top-down evaluation against a plain implementation, and loading of photographs (GESTALT_DATA=DIR)
	$(VENV)/bin/python tests/bench $(ARGS)

misuses: $(READY) ## time thirty mistakes until their one line of error
	$(VENV)/bin/python tests/misuses.py

test: $(READY) ## run the quick tests, under 8 minutes on 2 cores; WORKERS=0 runs them in one process
	$(PYTEST) $(QUICK) $(SPREAD) $(ARGS)

test-all: $(READY) ## run every test but the nightly ones; in one call with check, only the slow and GPU tests
	$(PYTEST) $(REST) $(SPREAD) $(ARGS)

check: $(READY) ## check lint, format and types, and run the quick tests
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy && $(PYTEST) $(QUICK) $(SPREAD)

fix: $(READY) ## fix lint and format
	$(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

gpu: $(READY) ## run the tests and the benchmark that need an NVIDIA GPU
	$(PYTEST) -m gpu $(ARGS)
	$(VENV)/bin/python tests/bench --only gpu

lock: $(READY) ## pin every package of make setup by version and hash in requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(VENV)/bin/uv --no-config pip compile setup.cfg --extra demo --extra dev --extra slurm --extra onnx -c constraints.txt --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -o requirements.lock

chaos: $(READY) ## inject faults into commands and check the outcome, an estimated 10 to 15 minutes on 2 idle cores: make chaos [ARGS="--seed 1 --only step"]
	$(VENV)/bin/python -m tests.chaos $(ARGS)

nightly: $(READY) ## run the long checks: planted bugs, coverage of intervals, faults
	$(PYTEST) -m nightly $(SPREAD)
	$(VENV)/bin/python -m tests.chaos

golden: $(READY) ## rewrite tests/golden; give the reason in the commit
	$(PYTEST) tests/test_golden.py tests/gestalt/ledger/test_ablation_text.py --rewrite-golden

.PHONY: help setup named train features pretrain ablate eval score reproduce segment group export data list compare report vocabulary board bench test test-all check fix gpu chaos nightly golden lock misuses
