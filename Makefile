PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Each stamp stands for an installation into .venv, repeated when pyproject.toml has changed.
EXAMPLES := $(VENV)/.examples
DEV := $(VENV)/.dev
BENCH := $(VENV)/.bench

.PHONY: demo test lint bench nightly bounds clean

demo: $(EXAMPLES)
	$(BIN)/python examples/digits.py

test: $(DEV)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --quiet

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict src

bench: $(BENCH)
	$(BIN)/python bench/eager.py
	$(BIN)/python bench/transforms.py
	$(BIN)/python bench/staging.py
	$(BIN)/python bench/gradients.py
	$(BIN)/python bench/orders.py
	$(BIN)/python bench/tapes.py
	$(BIN)/python bench/native.py

nightly: $(DEV)
	BINDRUNE_PROGRAMS=2000 BINDRUNE_OPERATIONS=10000 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --quiet

# Machine code that looks at every access whether it stays within its buffers; threads are left out.
bounds: $(DEV)
	BINDRUNE_CHECK=bounds $(BIN)/python -m pytest -n 2 --quiet tests/laws/test_staging.py tests/test_cheap_gradients.py \
		tests/test_native_kernels.py tests/test_native_matrices.py tests/test_native_splitting.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(EXAMPLES): pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[examples]'
	touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[dev]'
	touch $@

$(BENCH): pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[bench]'
	$(PIP) install torch==2.13.0
	touch $@
