# make demo | make test | make check: each sets itself up (make install) on a machine with python3 and make.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2

# The first of these that is Python 3.11 or 3.12; PYTHON=... names another.
SUPPORTED := import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	if $$p -c '$(SUPPORTED)' 2>/dev/null; then echo $$p; break; fi; done)

.PHONY: help install demo test test-slow test-interop test-breaks lint types check golden soak bench-gpu clean

help:
	@echo "make demo          train the three stages on handwritten digits and print the table (minutes)"
	@echo "make test          the default tests"
	@echo "make check         tests, ruff and pyright, as CI runs them"
	@echo "make test-slow     large models, fuzzing, long runs"
	@echo "make test-interop  against torch, timm, transformers and onnxruntime, in $(VENV)-interop"
	@echo "make test-breaks   breaks the code on purpose, again and again, and shows that tests notice"
	@echo "make soak          kill and resume, over and over"
	@echo "make golden        rewrite the golden files (then read the diff)"
	@echo "make bench-gpu     the accelerator benchmark beside its PyTorch twin"

install: $(STAMP)

$(STAMP): setup.py pyproject.toml requirements/constraints.txt
	@$(if $(PYTHON),:,echo "semivit_jax needs Python 3.11 or 3.12; found: $$(python3 --version 2>&1). Name one: make install PYTHON=/path/to/python3.12"; exit 1)
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "semivit_jax needs Python 3.11 or 3.12; $(PYTHON) is $$($(PYTHON) --version 2>&1)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt -e '.[dev]'
	@touch $@

demo: install
	$(BIN)/semivit train --config=configs/digits.py --workdir=runs/digits

test: install
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

test-slow: install
	$(BIN)/python -m pytest -m slow

test-interop: install
	./requirements/install_interop.sh $(VENV)-interop $(BIN)/python
	$(VENV)-interop/bin/python -m pytest -m interop tests/interop

test-breaks: install
	$(BIN)/python -m tests.breaks.run --jobs $(JOBS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/pyright

check: test lint types

golden: install
	$(BIN)/python -m tests.golden.rewrite

soak: install
	$(BIN)/python -m tests.e2e.soak

bench-gpu: install
	$(BIN)/python -m benchmarks.gpu --out benchmarks/results/gpu --minutes 9

clean:
	rm -rf $(VENV) $(VENV)-interop build *.egg-info
