# `make test` sets everything up and passes the tests; nothing else is needed but Python 3.11 and pip.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: test lint soak ui clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "silvertune needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

test: .venv/installed
	$(BIN)/python -m pytest -m 'not soak'

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: .venv/installed
	$(BIN)/python -m pytest -m soak

ui: .venv/installed
	$(BIN)/mlflow ui --backend-store-uri sqlite:///$(CURDIR)/mlruns/mlflow.db

clean:
	rm -rf .venv build dist
