# Two commands do everything: make quickstart, make test. Interrupted, the first goes on.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python3.14; do \
  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# One torch for all machines, the tested one. TORCH_INDEX chooses its build: see docs/install.md.
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= auto

.PHONY: quickstart test check docs gallery bench gpu clean

quickstart: $(VENV)/installed
	@mkdir -p quickstart
	$(BIN)/shiftgym envs
	$(BIN)/python examples/step.py
	@$(BIN)/shiftgym render ShiftHopper-morph-v0 --compare --out quickstart/hopper-morph.png \
	  && echo "Open quickstart/hopper-morph.png" \
	  || echo "Everything but pictures works without OpenGL: see docs/rendering.md"
	$(BIN)/python examples/quickstart.py
	@echo "Done. Next: . $(BIN)/activate && shiftgym --help"

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n $(JOBS) --durations 8

check: $(VENV)/installed
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/installed
	$(BIN)/python -m pip install -q -e ".[docs]" -c constraints.txt
	$(BIN)/python -m sphinx -W -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

gallery: $(VENV)/installed
	$(BIN)/python docs/make_gallery.py

bench: $(VENV)/installed
	$(BIN)/python benchmarks/envs.py --out docs/data/env_benchmarks.json --page docs/benchmarks.md

# Pieces of less than nine minutes; 3 says that there is more to do.
gpu: $(VENV)/installed
	@while :; do $(BIN)/python benchmarks/gpu_day.py --out gpu_day --minutes 8; code=$$?; \
	  test $$code -eq 3 || break; done; test $$code -eq 0
	$(BIN)/python benchmarks/gpu_day.py --out gpu_day --report

$(VENV)/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "shiftgym needs Python 3.11 or newer: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -q $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install -q -e ".[agents]" --group dev -c constraints.txt
	@touch $@

clean:
	rm -rf $(VENV) quickstart
