# `make` lists what can be made. Everything needs only Python 3.11 to 3.13 with its venv module.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
ARGS ?= experiments=quick
# One thread a test process: two processes with two threads each would fight for two cores. And
# bytecode is kept, also where the environment says otherwise: the tests start hundreds of Pythons.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.PHONY: help install run test test-processor coverage test-fast lint format lock bench bench-sweep bench-gpu notebooks notebooks-run clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED)  ## .venv with everything that is pinned

run: $(INSTALLED)  ## train one VAE; other settings: make run ARGS="loss=ssim lr=3e-4"
	$(BIN)/python run.py $(ARGS)

test: lint  ## linter, type checker and the whole suite
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 --dist worksteal

# As an older processor computes, and with bfloat16 where `make test` had float32, or the reverse;
# without W&B and the browser, and without long trainings whose margins no processor comes near.
test-processor: $(INSTALLED)  ## what trains models once more, as on another processor
	$(TEST_ENV) ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=default VAESWEEP_TEST_PRECISION=other \
	  $(BIN)/python -m pytest -q -n 2 --dist worksteal -m trains \
	  $(foreach name,tracking wandb shown one_scale short_trainings,--ignore-glob='*/test_$(name)*')

# Tracing makes the suite two to three times slower, so the everyday targets do without.
coverage: $(INSTALLED)  ## the whole suite with the lines that it does not reach
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 --dist worksteal --cov --cov-report=term

test-fast: $(INSTALLED)  ## the part of the suite that takes under two minutes
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

lint: $(INSTALLED)  ## linter, formatter's check and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## rewrite the code as the formatter wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## what a user waits for, as one table of ratios; half an hour, idle machine
	$(BIN)/python -m benchmarks.all

bench-sweep: $(INSTALLED)  ## time sweeps: idle workers, what a trial costs, thousands of trials
	$(BIN)/python -m benchmarks.sweeps.idle
	$(BIN)/python -m benchmarks.sweeps.overhead
	$(BIN)/python -m benchmarks.sweeps.ask
	$(BIN)/python -m benchmarks.sweeps.claim
	$(BIN)/python -m benchmarks.sweeps.scale

bench-gpu: $(INSTALLED)  ## time a GPU: the training step, run.py, trials that share it
	$(BIN)/python -m benchmarks.steps.gpu
	$(BIN)/python -m benchmarks.steps.fused

notebooks: $(INSTALLED)  ## open the notebooks of analysis/; your sweep: VAESWEEP_SOURCE=outputs/...
	cd analysis && ../$(BIN)/jupyter lab

notebooks-run: $(INSTALLED)  ## run them again and rewrite their outputs
	$(BIN)/python -m analysis.notebooks

lock:  ## pin the newest versions that pyproject.toml admits, with their hashes (needs uv)
	deploy/lock.sh --upgrade

clean:  ## remove what can be made again, but no results
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .coverage* .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip warns of much that does not matter, even with --quiet: what it says is shown only if it fails.
# Each package comes with its hash, and all are named, so pip need not find out what requires what.
# torch has no CUDA where pip finds such a build (PIP_EXTRA_INDEX_URL), and else what PyPI has.
$(INSTALLED): requirements.lock requirements.cpu.lock requirements.cuda.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "vaesweep needs Python 3.11 to 3.13; choose one with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "installing what requirements.lock pins into $(VENV) (a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_DEPS=1 PIP_REQUIRE_HASHES=1; \
	  pip="$(BIN)/python -m pip"; \
	  { $$pip install -r requirements.lock && \
	    { $$pip install -r requirements.cpu.lock || $$pip install -r requirements.cuda.lock; } \
	  } > $(VENV)/install.log 2>&1 || \
	  { cat $(VENV)/install.log >&2; \
	    echo "pip could not install requirements.lock: see above, or $(VENV)/install.log" >&2; exit 1; }
	@touch $@
