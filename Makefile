# Two commands suffice: `make demo` and `make test`. Both install what they need into .venv.

PYTHON ?= python3
BIN := .venv/bin
# make test-data: folders of real image sets and of recordings of the reference implementation
DATA ?=
REFERENCE ?=

# make models: which to make
MODELS ?= phase open

.PHONY: help install demo test test-all test-data lint bench picture models clean

help:
	@echo "make demo       install, then run the whole pipeline on drawn images: demo/report.html"
	@echo "make test       install, then format check, lint, types, layers and tests"
	@echo "make test-all   the slow tests too"
	@echo "make test-data  the tests on real data: DATA=folder REFERENCE=folder"
	@echo "make models     train, score and pack the models that ship: DATA=folder of image sets; hours"
	@echo "make picture    draw the README's picture anew, with the model that ships"
	@echo "make bench      time every part beside a plain version of the same algorithm"

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[imagenet]" --group dev
	touch $@

demo: install
	rm -rf demo
	$(BIN)/cellshed demo --out demo

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n 2

test-all: lint
	$(BIN)/pytest -n 2 -m "not realdata"

test-data: install
	CELLSHED_DATA=$(DATA) CELLSHED_REFERENCE=$(REFERENCE) $(BIN)/pytest -m realdata

bench: install
	$(BIN)/python benchmarks/run.py

picture: install
	$(BIN)/python docs/picture.py

models: install
	for name in $(MODELS); do $(BIN)/cellshed pack $$name --data "$(DATA)" \
	  --work models/$$name --out src/cellshed/shipped || exit 1; done

clean:
	rm -rf demo bench .venv
