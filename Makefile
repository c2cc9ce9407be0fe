.PHONY: demo test test-minimum fuzz audit check docs bench results gpu-bundle gpu lock clean
PYTHON ?= python3
BIN := .venv/bin

# Trains the built-in classifier and its explainer, compares it, and explains some images.
demo: .venv/installed
	$(BIN)/python scripts/demo.py

# Some tests start processes, which take the bytecode that the first of them writes.
test: .venv/installed
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses auto --dist worksteal

# With the oldest versions that pyproject.toml allows; their deprecation warnings are ignored.
test-minimum: .venv-minimum/installed
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= .venv-minimum/bin/python -m pytest --numprocesses auto --dist worksteal \
	    -W ignore::DeprecationWarning -W ignore::FutureWarning

# Ten times the cases that make test runs, other ones each time.
fuzz: .venv/installed
	FUZZ=10 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --hypothesis-show-statistics tests/faults/test_fuzz.py

# Known faults of the locked versions; an error where the index cannot be asked about one of them.
audit: .venv/installed
	$(BIN)/uvx pip-audit --strict --disable-pip --no-deps --requirement requirements.lock

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The docs site, into site/; a broken link is an error.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo site/index.html

# Speed and memory, each subject in a process of its own. QUICK=--quick only checks that they run.
bench: .venv/installed
	for subject in topk kl encoder training_step explanation saving gallery data ddp insertion_deletion memory training_memory startup universal; do \
	    $(BIN)/python benchmarks/$$subject.py $(QUICK) || exit 1; \
	done
	$(BIN)/python benchmarks/collect.py

# Repeats the tables of docs/results_digits.md, all or ROWS="digits comparison"; ROWS=--list prints the rows.
results: .venv/installed
	$(BIN)/python docs/make_results.py $(ROWS)

# What a machine with a GPU and no network needs beside the repository, into .gpu.
gpu-bundle: .venv/installed
	$(BIN)/python scripts/gpu_bundle.py $(if $(PHOTOGRAPHS),--photographs "$(PHOTOGRAPHS)")

# There: the tests that need a GPU, benchmarks, and a training; results go to $$OUT, or to outputs/gpu.
gpu:
	$(PYTHON) scripts/gpu.py $(PARTS)

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --editable .
	touch $@

.venv-minimum/installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv-minimum
	.venv-minimum/bin/pip install --quiet uv
	.venv-minimum/bin/uv pip install --python .venv-minimum/bin/python --compile-bytecode \
	    --resolution lowest-direct --requirements pyproject.toml --all-extras --group dev
	.venv-minimum/bin/uv pip install --python .venv-minimum/bin/python --no-deps --editable .
	touch $@

# Exact versions and hashes for every platform and Python, without index addresses.
lock:
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --group dev --no-header \
	    --no-annotate --no-emit-index-url --generate-hashes pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv .venv-minimum outputs site
