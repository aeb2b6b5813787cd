# Two commands from a clean clone, with Python 3.11, gcc, g++ and make: `make train` and `make test`.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# uv installs in a tenth of pip's time. Where it cannot, for instance with an index that pip alone is told of, pip does.
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python

PINS := requirements/cpu.txt requirements/no-deps.txt requirements/dev.txt pyproject.toml
# The stamp's name holds a hash of all pins: a second call installs nothing, a changed pin installs again.
STAMP := $(VENV)/.installed-$(shell cat $(PINS) | sha256sum | cut -c1-16)
SOURCES := openrlhf_rad cli tests docs examples $(wildcard benchmarks)

.PHONY: install train test test-all faults soak modes docs evidence check format lint types bench

install: $(STAMP)

$(STAMP):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $$(grep '^torch==' requirements/cpu.txt) $$(grep '^uv==' requirements/dev.txt)
	$(UV) -r requirements/cpu.txt -r requirements/dev.txt || $(PIP) -r requirements/cpu.txt -r requirements/dev.txt
	$(UV) --no-deps -r requirements/no-deps.txt || $(PIP) --no-deps -r requirements/no-deps.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	rm -f $(VENV)/.installed-*
	touch $@

train: $(STAMP)  ## the default job, minutes on two cores, then the table
	$(BIN)/rad-train --profile medical $(ARGS)

test: $(STAMP)  ## all but the slow tests
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

faults: $(STAMP)  ## kills a tiny run 20 times and compares it with one left alone; about half an hour
	$(BIN)/python benchmarks/faults.py $(ARGS)

soak: $(STAMP)  ## 300 tiny steps: memory and file handles of every process
	$(BIN)/python benchmarks/soak.py $(ARGS)

modes: $(STAMP)  ## trains in every mode of OpenRLHF, a minute or two each, and writes the tables
	$(BIN)/python benchmarks/modes.py $(ARGS)

docs: $(STAMP)  ## the documentation as a site, in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

evidence: $(STAMP)  ## tables and figures of docs/evidence.md from the data in studies/data
	$(BIN)/python benchmarks/evidence.py $(ARGS)

check: lint types  ## what must hold before a commit

lint: $(STAMP)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(STAMP)  ## the cost of RAD over plain OpenRLHF, and the transport solver beside its peers
	$(BIN)/python benchmarks/overhead.py
	$(PIP) --no-deps -r requirements/bench.txt
	$(BIN)/python benchmarks/transport.py
