# `make demo` runs the main study, `make test` passes the tests; each sets up what it needs first.
PYTHON ?= python3
VENV ?= .venv
PIPFLAGS ?=
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install -q --disable-pip-version-check
STUDY := $(PY) -m simulations
export OMP_NUM_THREADS ?= 1
unexport PYTHONDONTWRITEBYTECODE # or each process compiles all it imports again

.PHONY: demo small full study judge new figures gpu model test slow monitoring lint types derive bench docs \
	paper release floors lock clean

demo: $(VENV)/.ready
	$(STUDY) run compression --size demo

small: $(VENV)/.ready
	$(STUDY) run compression --size small --out out/small

# 16 seeds and weaker noise: the result in simulations/compression, 20 minutes on 2 cores.
full: $(VENV)/.ready
	$(STUDY) run compression --size full

# Any other study at full size: make study NAME=stationary.  Without running: make judge NAME=...
study: $(VENV)/.ready
	$(STUDY) run $(NAME) --size full

judge: $(VENV)/.ready
	$(STUDY) judge $(NAME)

# A folder with a working study: make new NAME=my_study
new: $(VENV)/.ready
	$(STUDY) new $(NAME)

# Draws the committed figures and tables again from the committed results.
figures: $(VENV)/.ready
	set -e; for study in simulations/*/study.py; do \
		$(STUDY) draw $$(basename $$(dirname $$study)); done

# Studies of real networks at full size on one GPU, 8 minutes each at most; run again to continue.
GPU_STUDIES := effective_loss generalisation depth_profile learned_dimension
gpu: $(VENV)/.ready
	set -e; for study in $(GPU_STUDIES); do \
		$(STUDY) run $$study --device cuda --jobs 4 || [ $$? -eq 1 ]; done

# Simulates the manifolds of the trained estimator of dimension again: 10 minutes on 2 cores.
model: $(VENV)/.ready
	$(PY) -m tools.train_dimension_model

test: $(VENV)/.ready
	$(PY) -m pytest -q -n 2

# What takes long: real schedulers, killed processes, whole runs repeated.
slow: $(VENV)/.ready
	$(PY) -m pytest -q -n 2 -m slow

# The callbacks of Lightning and Hugging Face in trainings with these packages.  REQUIRED= passes
# where the package index does not have them.
REQUIRED ?= yes
monitoring: $(VENV)/.ready
	if $(PIP) $(PIPFLAGS) -c constraints.txt -e '.[monitoring]'; then \
		$(PY) -m pytest -q tests/monitoring; \
	else \
		echo "Lightning, transformers or tensorboard cannot be installed here"; test -z "$(REQUIRED)"; \
	fi

lint: $(VENV)/.ready
	$(PY) -m ruff check . && $(PY) -m ruff format --check .

types: $(VENV)/.ready
	$(PY) -m mypy

derive: $(VENV)/.ready
	$(PY) -m derivations $(or $(CHECK),--write)

# Speed by hand and against the other packages that are installed: make bench BENCH="--quick".
# Interrupted, it continues; the tables are in out/benchmarks.
BENCH ?= --peers
bench: $(VENV)/.ready
	$(PY) -m benchmarks $(BENCH)

# The API of every public name and the pages of docs/, as a site in out/site.
docs: $(VENV)/.ready
	$(PIP) $(PIPFLAGS) -c constraints.txt -e '.[docs]'
	rm -rf out/site
	$(PY) -m sphinx -q -W --keep-going -b html docs out/site
	$(PY) tools/check_site.py

# The paper as out/paper/main.pdf, with the numbers of the committed results; it needs LaTeX.
paper: $(VENV)/.ready
	$(PY) -m tools.paper_numbers
	mkdir -p out/paper
	cd paper && latexmk -pdf -interaction=nonstopmode -halt-on-error -output-directory=../out/paper main.tex

# Builds the package, checks it, and runs the README's programs on the wheel in bare environments.
release: $(VENV)/.ready
	$(PIP) build twine
	rm -rf dist
	$(PY) -m build -q
	$(PY) -m twine check --strict dist/*
	PIPFLAGS="$(PIPFLAGS)" $(PY) tools/check_release.py

# The tests of a few parts with the lowest versions that pyproject.toml allows, in .venv-floors.
FLOORS := .venv-floors
floors: $(VENV)/.ready
	$(PYTHON) -m venv $(FLOORS)
	$(PY) -m tools.floors > $(FLOORS)/floors.txt
	$(FLOORS)/bin/python -m pip install -q --no-compile $(PIPFLAGS) torch==2.13.0 -r $(FLOORS)/floors.txt \
		pytest hypothesis array-api-strict beartype
	$(FLOORS)/bin/python -m pytest -q -W default -p no:cacheprovider tests/core tests/noise tests/hostile

# Renews constraints.txt: no URL in it, torch without the suffix of a build and without CUDA's own
# packages, so that each machine takes the build that is its own.
lock: $(VENV)/.ready
	$(PIP) uv
	echo "torch==2.13.0" | $(PY) -m uv pip compile -q --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links $(LOCKFLAGS) --group dev --extra all \
		-c - pyproject.toml | sed -e 's/+cpu//' | grep -vE '^(nvidia|cuda|triton)' > constraints.new
	mv constraints.new constraints.txt

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) --no-compile $(PIPFLAGS) -c constraints.txt --group dev -e '.[all]'
	@touch $@

clean:
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
