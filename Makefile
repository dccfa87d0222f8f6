# Everything runs in a virtual environment that the first target needing it sets up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
MODEL := models/digits_cnn

.PHONY: demo test lint bench setup clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "qcompiler needs Python 3.11 or later (make PYTHON=python3.12 ...)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[dev]'
	@$(INSTALL) --editable '.[qnn]' || echo 'onnxruntime-qnn cannot be installed here (it needs x86-64 with glibc 2.35 or later): tests of QNN are skipped'
	@touch $@

demo: setup
	$(BIN)/qcompile $(MODEL)/model.onnx --target onnxruntime --data $(MODEL)/calibration.npz --eval $(MODEL)/evaluation.npz -o out/digits_cnn

test: setup
	$(BIN)/python -m pytest -n auto

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.speed --threads 1,2 --json out/bench.json

clean:
	rm -rf $(VENV) out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
