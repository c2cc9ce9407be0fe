.PHONY: demo test check lock clean
PYTHON ?= python3
BIN := .venv/bin

demo: .venv/installed
	$(BIN)/python -m saliency_vae.train experiment=cluttered_digits

test: .venv/installed
	$(BIN)/python -m pytest

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --editable .
	touch $@

# Exact versions for every platform and Python, without addresses.
lock:
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --group dev --no-header \
	    --no-annotate --no-emit-index-url pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv outputs
