# `make lab` opens the course, `make test` runs what CI runs. Both make .venv on their first run and
# install nothing on the next, so that the next works without a network. `make help` lists the rest.

PYTHON ?= python3
VENV   ?= .venv
# cpu: small, and all that the course needs. default: whatever the package index has (on Linux, CUDA: several GB).
TORCH  ?= cpu
# Options for JupyterLab, as in `make lab LAB_ARGS=--no-browser`.
LAB_ARGS ?=
# What to test and how, as in `make test PYTEST_ARGS="-k ntk"`.
PYTEST_ARGS ?=
WORKERS ?= 2
VERIFY_ARGS ?=
BENCH_ARGS ?=

BIN := $(VENV)/bin
PY  := $(BIN)/python
# The address of PyTorch's own CPU builds; asked only where no folder of wheels known to pip has the pinned one.
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
TORCH_PIN := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)
# Stamps carry a digest of what is installed (not of the tools' settings), so that a checkout or a touched file reinstalls nothing.
DIGEST := $(shell sed '/^\[tool\.ruff\]/,$$d' pyproject.toml | cat - constraints.txt hatch_build.py | cksum | cut -d' ' -f1)
READY_LAB  := $(VENV)/.ready-lab-$(DIGEST)
READY_TEST := $(VENV)/.ready-test-$(DIGEST)

# uv does not read pip's list of wheel folders.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
# One thread a worker, so that workers do not fight over the cores.
TEST_ENV := SCIVIZ_STRICT=1 OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} PATH="$(abspath $(BIN)):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help lab test test-full verify bench lint format lock binder bounds clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

lab: $(READY_LAB) ## open the course in JupyterLab
	PATH="$(abspath $(BIN)):$$PATH" $(PY) -m jupyterlab $(LAB_ARGS) tutorials/00_start_here.ipynb

test: lint ## check and test everything, as CI does
	$(TEST_ENV) $(PY) -m pytest -n $(WORKERS) --dist loadscope $(PYTEST_ARGS)

test-full: lint ## the same, with the slow tests at the sizes that the course states
	$(TEST_ENV) $(PY) -m pytest -n $(WORKERS) --dist loadscope -m "" $(PYTEST_ARGS)

verify: $(READY_LAB) ## measure every claim again and write course/claims.json
	$(PY) -m sciviz.cli verify $(VERIFY_ARGS)

bench: $(READY_TEST) ## ours beside its peers, in environments made below .bench/: tests/benchmarks/README.md
	$(PY) tests/benchmarks/bench.py $(BENCH_ARGS)

lint: $(READY_TEST) ## style, types, stripped notebooks, pins that agree
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --strict sciviz
	$(PY) tools/strip_notebooks.py --check
	$(PY) tools/lock.py --check

format: $(READY_TEST) ## put code and notebooks into the shape that lint asks for
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(PY) tools/strip_notebooks.py

lock: $(READY_TEST) ## solve the dependencies again: constraints.txt, requirements.lock, binder/
	$(PY) tools/lock.py

binder: $(READY_TEST) ## write binder/ from requirements.lock
	$(PY) tools/lock.py --derive

bounds: $(READY_TEST) ## try the lower bounds in pyproject.toml: install exactly them, run the unit tests
	TORCH_CPU_INDEX=$(TORCH_CPU_INDEX) $(PY) tools/try_bounds.py

clean: ## remove the environment, the caches and what tests leave behind
	rm -rf $(VENV) build dist test-artefacts .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "sciviz needs Python 3.11 or newer, and '$(PYTHON)' is not: name one, as in  make lab PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || \
	  { echo "'$(PYTHON)' cannot make virtual environments: install its venv package (on Debian and Ubuntu, python3-venv)."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# $(1): what to install of this project, with its extras.
define install
	@$(PY) -m uv --version >/dev/null 2>&1 || $(PY) -m pip install --quiet --constraint constraints.txt uv || echo "uv is not to be had: pip does the work, more slowly."
	@$(PY) -c 'from importlib.metadata import version; version("torch")' 2>/dev/null || [ "$(TORCH)" != cpu ] || [ "$$(uname -s)" != Linux ] \
	  || $(PY) -m pip install --quiet --no-index --no-deps "$(TORCH_PIN)" 2>/dev/null \
	  || $(PY) -m pip install --quiet --no-deps --retries 1 --index-url $(TORCH_CPU_INDEX) "$(TORCH_PIN)" \
	  || echo "No CPU build of $(TORCH_PIN) was found: the package index's own build is taken."
	@echo "Installing $(1) into $(VENV), with the versions of constraints.txt ..."
	@if $(PY) -m uv --version >/dev/null 2>&1; then $(PY) -m uv pip install --quiet --python $(PY) --constraint constraints.txt -e "$(1)"; \
	  else $(PY) -m pip install --quiet --constraint constraints.txt -e "$(1)"; fi
	@rm -f $(VENV)/.ready-*
endef

$(READY_LAB): | $(PY)
	$(call install,.)
	@touch $@

$(READY_TEST): | $(PY)
	$(call install,.[test$(comma)cluster$(comma)coursework])
	@touch $@ $(READY_LAB)

comma := ,
