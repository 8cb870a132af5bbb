# make demo | make test | make check: each sets itself up (make install) on a machine with python3 and make.

VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

# The first of these that will do; PYTHON=... names another.
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11 python3.14; do \
	if $$p requirements/install.py --supported 2>/dev/null; then echo $$p; exit; fi; done; echo python3)
# A Python that was found is no wish: the environment keeps its own.
named = $(if $(filter file,$(origin PYTHON)),,--python)
# ACCELERATOR=cpu|cuda12|cuda13|tpu and EXTRAS=gcs,heic,onnx,report,select,label,torch,plan,wandb,mlflow are remembered until they are given again, be it empty.
given = $(if $(filter undefined,$(origin $(1))),,$(2)='$($(1))')

.PHONY: help install demo test test-bucket test-browser browser test-slow test-interop test-breaks lint types check check-versions docs golden \
	tutorial soak study bench-gpu few-labels choose-recipe clean

help:
	@echo "make demo           train the three stages on handwritten digits and print the table (minutes)"
	@echo "make install        for the accelerator it finds; ACCELERATOR=cpu|cuda12|cuda13|tpu EXTRAS=gcs,heic,onnx,report,select,label,torch,plan,wandb,mlflow decide"
	@echo "make test           the default tests"
	@echo "make check          tests, ruff and pyright, as CI runs them"
	@echo "make check-versions resolves the requirements for every Python, jax and accelerator; installs none of them"
	@echo "make test-bucket    whole runs in a bucket, in a store on this machine"
	@echo "make test-browser   pages in a real browser; make browser installs Debian's Chromium for it"
	@echo "make test-slow      large models, fuzzing, long runs"
	@echo "make test-interop   against torch, timm, transformers, onnxruntime, wandb, mlflow and trackio, in $(VENV)-interop"
	@echo "make test-breaks    breaks the code on purpose, again and again, and shows that tests notice"
	@echo "make soak           kill and resume, over and over"
	@echo "make docs           builds the site of docs/ into site/, in $(VENV)-docs; a broken link fails"
	@echo "make golden         rewrite the golden files (then read the diff)"
	@echo "make tutorial       run the commands of docs/tutorial.md, and write their outputs and pictures into docs/"
	@echo "make study          DATA=CIFAR10, its photographs as JPEG files: which part of the method pays (hours; docs/study.md);"
	@echo "                    with WEIGHTS=IMPORT which pseudo-label rule, for a head on their frozen features"
	@echo "make bench-gpu      the accelerator benchmark beside its PyTorch twin"
	@echo "make few-labels     DATA=FOLDER WEIGHTS=IMPORT: what pays with few labels, a table (hours on two cores)"
	@echo "make choose-recipe  DATA=FOLDER DINOV2=IMPORT MAE=RUN: own_folder's values for few labels beside others, a table (hours)"

install:
	@$(PYTHON) requirements/install.py --venv=$(VENV) $(named) $(call given,ACCELERATOR,--accelerator) $(call given,EXTRAS,--extras)

# What a step frees stays in the process; else glibc asks the kernel for it again at every step (docs/performance.md).
KEEP_FREED = MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1000000000

demo: install
	$(KEEP_FREED) $(BIN)/semivit train --config=configs/digits.py --workdir=runs/digits

# Folder by folder: whole runs come early, so that no worker is left with a long one at the end.
test: install
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder

test-bucket: install
	$(BIN)/python -m pytest -m bucket tests/bucket

# Chromium of Debian or Ubuntu, where this user may install it; else the command that does.
INSTALL_CHROMIUM = apt-get update && apt-get install --yes --no-install-recommends chromium

browser:
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then $(INSTALL_CHROMIUM); \
	else echo "no Chromium, and this user cannot install it: sudo sh -c '$(INSTALL_CHROMIUM)'"; fi

test-browser: install
	$(BIN)/python -m pytest -m browser tests/browser

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

check-versions: install
	$(BIN)/python -m pip install --quiet -c requirements/constraints.txt uv
	$(BIN)/python requirements/check_versions.py

$(VENV)-docs/.installed: requirements/docs.txt requirements/constraints.txt
	$(PYTHON) -m venv --clear $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	touch $@

docs: $(VENV)-docs/.installed
	$(VENV)-docs/bin/python website/build.py

golden: install
	$(BIN)/python -m tests.golden.rewrite

tutorial: install
	$(BIN)/python -m tutorial.make

soak: install
	$(BIN)/python -m tests.e2e.soak

study: install
	@$(KEEP_FREED) $(BIN)/python -m benchmarks.study --data='$(DATA)' --root=runs/study $(if $(WEIGHTS),--size=features --weights='$(WEIGHTS)')

bench-gpu: install
	$(BIN)/python -m benchmarks.gpu --out benchmarks/results/gpu --minutes 9

# DATA=FOLDER (class folders in train/ and test/) WEIGHTS=IMPORT, as `semivit import` writes it
few-labels: install
	$(BIN)/python -m benchmarks.few_labels

# DATA=FOLDER (class folders in train/) DINOV2=IMPORT MAE=RUN (of stage mae, as make study leaves it in runs/study/small/mae)
choose-recipe: install
	$(KEEP_FREED) $(BIN)/python -m benchmarks.choose_recipe

clean:
	rm -rf $(VENV) $(VENV)-interop $(VENV)-docs build site *.egg-info
