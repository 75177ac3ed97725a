PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLIENTS := .venv-clients
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1

.PHONY: setup compare test clients soak lint docs bench clean

setup: $(STAMP)  ## create .venv and install the pinned dependencies; does nothing when it is current

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

compare: setup  ## the quick comparison: table, figures and report.html in results/quick
	$(BIN)/python -m launch compare --preset quick --out results/quick

test: export PYTHONDONTWRITEBYTECODE =  # the processes of the tests would compile every module anew
test: setup lint  ## lint, types and every test
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --ignore tests/clients

clients: $(CLIENTS)/.installed  ## train with Stable-Baselines3, TorchRL, BenchMARL and RLlib, in an environment of their own
	$(CLIENTS)/bin/python -m pytest tests/clients

$(CLIENTS)/.installed: pyproject.toml constraints.txt
	test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[clients]'
	touch $@

soak: setup  ## the long forms of the tests of reliability, under half an hour; ends with a table
	$(BIN)/python -m pytest -m soak --ignore tests/clients

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup  ## the site, in site/index.html; a broken link, or anything loaded from elsewhere, is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: setup  ## speed, as ratios against references in the same run
	$(BIN)/python -m launch bench --json results/bench.json

clean:
	rm -rf $(VENV) $(CLIENTS) results runs site
