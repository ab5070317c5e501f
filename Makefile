# Works on a machine with Python 3.11+ and make; everything else is installed into this folder.

PYTHON ?= python3
UV := $(shell command -v uv || echo .uv/bin/uv)
RUN := $(UV) run --no-sync
JOBS ?= 2

.PHONY: demo test lint clean

demo: $(UV)  ## anonymize sample photos by every light method; prints where the pictures are
	$(UV) sync --quiet --inexact
	$(RUN) python examples/demo.py demo-out

test: lint  ## everything that CI runs: lint, types, imports, then all tests
	$(RUN) pytest -n $(JOBS) tests
	for plugin in plugins/* examples/demo_test.py; do $(RUN) pytest $$plugin || exit 1; done  # TensorFlow and PyTorch apart

lint: install
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports --no-cache

.PHONY: install
install: $(UV)
	$(UV) sync --quiet --inexact --group dev

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet uv

clean:
	rm -rf .venv .uv demo-out
