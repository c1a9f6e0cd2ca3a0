# Every result of this project comes from a target of this file. `make` lists them.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready

# Where encoders are fetched to.
export SCALA_CACHE ?= $(CURDIR)/.cache

# Options of `make demo`, for example: GLUE_DIR=/data/glue TASK=mrpc SEEDS="0 1 2" make demo
TASK   ?= acceptability
OUT    ?= runs/demo
DEMO_OPTIONS = --tasks $(TASK) --out $(OUT) $(if $(GLUE_DIR),--glue-dir "$(GLUE_DIR)") $(if $(MODEL),--model $(MODEL)) \
	$(if $(SEEDS),--seeds $(SEEDS)) $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(TRAIN_EXAMPLES),--train-examples $(TRAIN_EXAMPLES))

RESULTS = paper_repro/results
SWEEP_OPTIONS = --glue-dir "$(GLUE_DIR)" $(if $(BUDGET_MIN),--budget-min $(BUDGET_MIN))

.DEFAULT_GOAL := help
.PHONY: help env theory theory-fast theory-fuzz theory-bench hunt demo bench bench-gpu defaults ascents tuning leaders glue-minilm studies \
	glue-bert-base glue-roberta-large results tables landscape onset scaling claims report reproduce faults test lint dist clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 18

env: $(READY)  ## make the environment in .venv, with the versions of constraints.txt

# torch first and alone, pinned: a later package must not pull in another build of it. The two peers' optimizers are references
# in the tests only; without their dependencies, since nothing else of them is used.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,pep]'
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps timm torch_optimizer pytorch_ranger pytorch_optimizer
	touch $@

# Every theorem's result is a file: interrupted, the same command goes on.
theory: $(READY)  ## check every theorem: proofs, attacks, measurements, planted faults; writes runs/theory/index.html
	@$(PY) -m convergence

theory-fast: $(READY)  ## the essential of it, in a minute
	@$(PY) -m convergence --fast

theory-fuzz: $(READY)  ## malformed, hostile and random certificate files for the stand-alone verifier (DOCUMENTS=10000)
	@FUZZ=$(or $(DOCUMENTS),10000) $(PY) -m pytest -q tests/convergence/test_documents.py

theory-bench: $(READY)  ## batched engine against a loop, exact verification against an SDP solver
	@$(PY) -m convergence.benchmark --out runs/theory-bench.json

hunt: $(READY)  ## look for counter-examples with new random draws (BUDGET_MIN=30)
	@$(PY) -m convergence.hunt --minutes $(or $(BUDGET_MIN),30) --out runs/hunt

demo: $(READY)  ## does a large batch reach the small batch's score? a real encoder, four ways, three seeds (GLUE_DIR= TASK= MODEL= SEEDS= EPOCHS= TRAIN_EXAMPLES= OUT=)
	@$(SWEEP)/demo.toml $(DEMO_OPTIONS)

bench: $(READY)  ## how fast: leader's step, round, memory, growth, profile, beside their floors; writes runs/bench.json and figures
	@$(PY) -m paper_repro.bench --out runs/bench.json

bench-gpu: $(READY)  ## the same on CUDA, with BERT-base and RoBERTa-large shapes, bf16 and torch.compile; writes runs/bench-gpu.json
	@$(PY) -m paper_repro.bench --device cuda --out runs/bench-gpu.json

# Every run is a file: killed or out of BUDGET_MIN minutes, the same command goes on.
SWEEP = $(PY) -m paper_repro.sweep paper_repro/experiments
defaults: $(READY)  ## measure the defaults on held-out training data (GLUE_DIR= needed; BUDGET_MIN=)
	@test -n "$(GLUE_DIR)" || { echo "set GLUE_DIR to a folder with the official GLUE files (SST-2/train.tsv ...)"; exit 1; }
	$(SWEEP)/defaults-rate.toml --task sst2 $(SWEEP_OPTIONS) --summary $(RESULTS)/defaults-rate-sst2.json
	$(SWEEP)/defaults-noise.toml --task sst2 $(SWEEP_OPTIONS) --summary $(RESULTS)/defaults-noise-sst2.json

ascents: $(READY)  ## what the follower's cheaper ascents do to the score, on held-out training data (GLUE_DIR= needed; BUDGET_MIN=)
	@test -n "$(GLUE_DIR)" || { echo "set GLUE_DIR to a folder with the official GLUE files (SST-2/train.tsv ...)"; exit 1; }
	$(SWEEP)/defaults-ascents.toml --task sst2 --workers 2 $(SWEEP_OPTIONS) --summary $(RESULTS)/ascents-sst2.json

# The reproduction. Order: tuning, then glue-minilm and studies, then results (runs -> committed results), then tables and claims.
TASKS ?= sst2 cola mrpc rte stsb
STUDIES ?= speedup ablation-radius ablation-onset ablation-head ablation-delay ablation-noise ablation-steps ablation-norm ablation-start \
	ablation-leader ablation-batch ablation-few ablation-rho sensitivity controls
GLUE_OPTIONS = $(if $(TASKS),--tasks $(TASKS)) $(if $(METHODS),--methods $(METHODS)) $(if $(SEEDS),--seeds $(SEEDS)) \
	$(if $(GLUE_DIR),--glue-dir "$(GLUE_DIR)") $(if $(BUDGET_MIN),--budget-min $(BUDGET_MIN)) \
	$(if $(WORKERS),--workers $(WORKERS)) --out runs/glue
tuning: METHODS =
tuning studies: TASKS =
tuning: $(READY)  ## learning rates for every method, on held-out training data (GLUE_DIR= BUDGET_MIN= WORKERS=)
	$(SWEEP)/tuning.toml $(GLUE_OPTIONS) --summary $(RESULTS)/tuning
	$(SWEEP)/tuning-minilm.toml $(GLUE_OPTIONS) --summary $(RESULTS)/tuning
	$(SWEEP)/tuning-rivals.toml $(GLUE_OPTIONS) --summary $(RESULTS)/tuning
	$(SWEEP)/tuning-demo.toml $(GLUE_OPTIONS) --summary $(RESULTS)/tuning
	$(SWEEP)/tuning-controls.toml $(GLUE_OPTIONS) --summary $(RESULTS)/tuning

leaders: TASKS = acceptability sst2
leaders: METHODS = adamw-32 adamw lamb lamb-rows relative orthogonal
leaders: $(READY)  ## which leader makes a large batch reach the small one's score, how well its rate must be known, what noise does to that (GLUE_DIR= BUDGET_MIN=)
	$(SWEEP)/leader-rates.toml $(GLUE_OPTIONS) --summary $(RESULTS)/leaders/rates
	$(SWEEP)/leaders.toml $(GLUE_OPTIONS) --tuning $(RESULTS)/leaders/rates --summary $(RESULTS)/leaders
	$(SWEEP)/noise-rates.toml $(if $(GLUE_DIR),--glue-dir "$(GLUE_DIR)") $(if $(BUDGET_MIN),--budget-min $(BUDGET_MIN)) \
	$(if $(WORKERS),--workers $(WORKERS)) --out runs/glue --tuning $(RESULTS)/leaders/rates --summary $(RESULTS)/leaders/noise
	@$(PY) -m paper_repro.leaders

glue-minilm: $(READY)  ## the main comparison on small encoders, for a CPU (GLUE_DIR= TASKS= METHODS= SEEDS= BUDGET_MIN= WORKERS=)
	$(SWEEP)/main.toml $(GLUE_OPTIONS)

studies: $(READY)  ## speed-up, ablations, sensitivity and controls, on the same encoders (STUDIES= TASKS= SEEDS= BUDGET_MIN= each)
	@for study in $(STUDIES); do $(SWEEP)/$$study.toml $(GLUE_OPTIONS) || exit; done

glue-bert-base glue-roberta-large: TASKS =
glue-bert-base: $(READY)  ## the main comparison on BERT-base, for a GPU (SMOKE=1: the whole path, tiny and meaningless)
	$(SWEEP)/$@.toml $(GLUE_OPTIONS) $(if $(SMOKE),--smoke)

glue-roberta-large: $(READY)  ## the same on RoBERTa-large
	$(SWEEP)/$@.toml $(GLUE_OPTIONS) $(if $(SMOKE),--smoke)

results: $(READY)  ## collect finished runs into paper_repro/results/glue
	@$(PY) -m paper_repro.runs.store --collect runs/glue --into $(RESULTS)/glue

tables: $(READY)  ## tables and figures of the reproduction, from the committed results; writes runs/tables
	@$(PY) -m paper_repro.analysis.experiment_page --results $(RESULTS)/glue --out runs/tables

# Every checkpoint's measures are a file: killed, the same command goes on.
landscape: $(READY)  ## how steep the loss is along training, method by method (GLUE_DIR= SEEDS= WORKERS=); writes runs/landscape
	@$(PY) -m paper_repro.landscape $(if $(GLUE_DIR),--glue-dir "$(GLUE_DIR)") $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(WORKERS),--workers $(WORKERS))

# Kept weights and measures are files: killed, the same command goes on.
onset: TASKS = sst2 acceptability cola
onset: $(READY)  ## what radius of noise a model bears where it begins (GLUE_DIR= TASKS= SEEDS=); writes runs/onset
	@$(PY) -m paper_repro.onset --tasks $(TASKS) $(if $(GLUE_DIR),--glue-dir "$(GLUE_DIR)") $(if $(SEEDS),--seeds $(SEEDS))

# Measured step times are files in OUT: interrupted, the same command goes on. Run it with nothing else on the machine.
scaling: OUT = runs/scaling
scaling: $(READY)  ## critical batch, time of data-parallel steps, 1 to 1,024 devices predicted (GLUE_DIR= for time to target; GPU= HARDWARE= OUT=)
	@$(PY) -m paper_repro.scaling --out $(OUT) $(if $(GLUE_DIR),--glue-dir "$(GLUE_DIR)") \
		$(if $(GPU),--measured "$(GPU)") $(if $(HARDWARE),--hardware $(HARDWARE))

claims: $(READY)  ## the paper's claims, each with the status that the committed results give it
	@$(PY) -m paper_repro.analysis.claims

report: $(READY)  ## one site that shows it all, from committed results and those in runs/; writes runs/report/index.html
	@$(PY) -m paper_repro.report

# In this order, also under -j: tables, claims and report read what the others make. With GLUE_DIR also the training, each sweep within
# BUDGET_MIN minutes. Killed or out of time, the same command goes on.
.NOTPARALLEL: reproduce
reproduce: BUDGET_MIN ?= 60
reproduce: theory demo $(if $(GLUE_DIR),tuning glue-minilm studies results landscape onset) scaling tables claims report  ## all results that this machine can make, in 40 minutes; with GLUE_DIR= the training too (BUDGET_MIN=60 a sweep)

# Every trial is a file: killed, the same command goes on.
faults: $(READY)  ## kill, cut off, tamper with and fill up what runs, and see what is lost; writes docs/faults.md (KILLS=200)
	@$(PY) -m paper_repro.faults --kills $(or $(KILLS),200) --out runs/faults --record $(RESULTS)/faults.json --page docs/faults.md

test: $(READY)  ## the whole test suite
	@$(PY) -m paper_repro.data.encoders bert-tiny
	$(PY) -m pytest -n 2

lint: $(READY)  ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

dist: $(READY)  ## wheel and sdist, into dist/
	$(PY) -m build --outdir dist .

clean:  ## remove the environment, fetched encoders and caches; results in runs/ stay
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
