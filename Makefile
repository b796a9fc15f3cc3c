# `make demo` runs the main job, `make test` passes the tests; each sets up what it needs first.
PYTHON ?= python3
VENV ?= .venv
PIPFLAGS ?=
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -q --disable-pip-version-check
export OMP_NUM_THREADS ?= 1
unexport PYTHONDONTWRITEBYTECODE # or each process compiles all it imports again

.PHONY: demo small full calibration study gpu results reference test slow lint types figures derive lock clean

demo: $(VENV)/.ready
	$(PY) simulations/compression.py --size demo

small: $(VENV)/.ready
	$(PY) simulations/compression.py --small --out out/small

full: $(VENV)/.ready
	$(PY) simulations/compression.py --size full

# How far estimates of dimension are off, and whether their errors are true: 20 minutes on 2 cores.
calibration: $(VENV)/.ready
	$(PY) simulations/calibration.py

# Any other study at its full size, minutes on 2 cores each: make study NAME=noise_shape
study: $(VENV)/.ready
	$(PY) simulations/$(NAME).py

# Studies of real networks at full size on one GPU, 8 minutes each at most; again to go on.
gpu: $(VENV)/.ready
	simulations/gpu.sh $(PY)

# Draws anew the manifolds that `dimension.estimate` has learned from: 10 minutes on 2 cores.
reference: $(VENV)/.ready
	$(PY) simulations/reference.py

# Takes what `make full` found into the repository; the checkout it ran from must have been clean.
results: full
	cp out/compression/results.nc simulations/results/compression.nc
	cp out/compression/compression*.png out/compression/compression*.pdf simulations/results/

test: $(VENV)/.ready
	$(PY) -m pytest -q -n 2

# What takes long: real schedulers, killed processes, whole runs repeated.
slow: $(VENV)/.ready
	$(PY) -m pytest -q -n 2 -m slow

lint: $(VENV)/.ready
	$(PY) -m ruff check . && $(PY) -m ruff format --check .

types: $(VENV)/.ready
	$(PY) -m mypy

# Draws the committed figures anew from the committed results.
figures: $(VENV)/.ready
	for study in simulations/*/study.py; do \
		$(PY) -m simulations draw $$(basename $$(dirname $$study)) || exit 1; done

derive: $(VENV)/.ready
	$(PY) -m derivations $(CHECK)

# Renews constraints.txt: no URL in it, torch without the suffix of a build and without CUDA's own
# packages, so that each machine takes the build that is its own.
lock: $(VENV)/.ready
	$(PIP) uv
	echo "torch==2.13.0" | $(PY) -m uv pip compile -q --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links $(LOCKFLAGS) --group dev -c - pyproject.toml \
		| sed -e 's/+cpu//' | grep -vE '^(nvidia|cuda|triton)' > constraints.new
	mv constraints.new constraints.txt

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) --no-compile $(PIPFLAGS) -c constraints.txt --group dev -e .
	@touch $@

clean:
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
