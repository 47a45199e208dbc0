# Two commands do everything on a machine with Python 3.11, git and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
INSTALL := pip install --quiet --no-deps --no-compile
# Jobs take `python` from PATH, so the environment comes first on it. Models are local files: no hub is contacted.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export HF_HUB_OFFLINE := 1
export NO_ET := 1
export MPLBACKEND := Agg
# glibc returns large blocks to the kernel after each use; keeping them saves convolutions more than half of their time.
export MALLOC_MMAP_MAX_ := 0
export MALLOC_TRIM_THRESHOLD_ := 8589934592

# Only one run at a time in this folder; Snakemake's lock of a killed run is removed first, and the run resumes where it stopped.
RUN = mkdir -p results && flock results/.lock sh -c 'snakemake --profile profiles/demo "$$@" --unlock >/dev/null 2>&1; \
	exec snakemake --profile profiles/demo "$$@"' run

.PHONY: help setup demo demo-full demo-snr0 demo-seed test test-all test-dag test-method test-machinery test-slow test-slurm test-slurm-demo lint lock connectors clean

help:
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | column -t -s "$$(printf '\t')"

setup: $(VENV)/.ready  ## Create the environment from the locks

# torch: the CPU build if available (3 GB smaller), else the index's build with its CUDA libraries. Modules are compiled on first import:
# most are never imported, and compiling all of them would take half of the time.
$(VENV)/.ready: requirements.lock requirements-cpu.lock requirements-cuda.lock pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"found Python {v[0]}.{v[1]}, expected 3.11, which the lock is made for; name one with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --require-hashes -r requirements-cpu.lock 2>/dev/null || echo "No CPU build of torch here: taking the index's build."
	$(INSTALL) --require-hashes -r requirements.lock
	python -c 'from importlib import metadata; import sys; sys.exit(0 if any(r.startswith("nvidia") or r.startswith("cuda") for r in metadata.requires("torch")) and sys.platform == "linux" else 1)' \
		&& $(INSTALL) --require-hashes -r requirements-cuda.lock || true
	$(INSTALL) --no-build-isolation --editable .
	touch $@

demo: setup  ## Run the embedded default on this machine, from raw data to tables and report
	$(RUN)

demo-full: setup  ## The same with all controls: those that need their own training runs are added to the results of `make demo`
	$(RUN) --config decoding='{controls: all}'

demo-snr0: setup  ## The same with all controls and BOLD without signal: the model must not beat the controls
	$(RUN) --config simulation='{snr: 0}' decoding='{controls: all}' paths='{results: results/demo-snr0}'

demo-seed: setup  ## The same with another seed: make demo-seed SEED=7
	$(RUN) --config seed=$(SEED) paths='{results: results/demo-seed$(SEED)}'

test: setup  ## Checks, unit tests, and the real DAG at its smallest size
	@# the real DAG last: alone, it uses both cores
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint test-method test-machinery test-dag

test-all: test test-slow test-slurm test-slurm-demo  ## All tests, including slow ones: all captioners, conda, power, and, as root, a real Slurm with the demo on it

test-dag: setup  ## The tests that share one run of the real DAG
	pytest tests/dag -m "not slow"

test-method: setup  ## Unit tests of the method
	pytest tests/method -m "not slow"

test-machinery: setup  ## Unit tests of everything that does not depend on the method, on a toy workflow where they need one
	pytest tests/machinery -m "not slow"

test-slow: setup  ## Slow tests of the method, the machinery and the DAG
	pytest tests/method tests/machinery tests/dag -m slow

test-slurm: setup  ## Fault tests on a real Slurm started on this machine; needs root and Debian's packages
	pytest tests/slurm -m "not slow"

test-slurm-demo: setup  ## Compare the demo on that Slurm with the demo on this machine, byte for byte
	pytest tests/slurm -m slow -s

lint: setup
	ruff check .
	ruff format --check .
	mypy
	snakemake --lint --profile profiles/demo
	snakefmt --check Snakefile rules

lock: setup  ## Resolve requirements.in again
	python envs/lock.py

connectors: setup  ## Train the miniature Video-LLaMA's connectors again
	$(RUN) results/demo/connectors
	cp results/demo/connectors/*.* boldscribe/models/weights/
	@echo "Enter the new sizes and digests in data/versions.csv:"; wc -c boldscribe/models/weights/*.safetensors; \
		sha256sum boldscribe/models/weights/*.safetensors

clean:  ## Remove the results of the demo
	rm -rf results/demo results/demo-*
