# The tasks of the project; `make help` lists them. Needs Python 3.11 or later and the package registries, nothing else.

PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
OWN := .venv/bin/python
CRASH_TIMES := 20

.DEFAULT_GOAL := help
.PHONY: help run stop status test check chaos bench lock clean environment

help:  ## List the tasks
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

run: environment  ## Start everything and stay; Ctrl-C stops it
	@exec $(OWN) -m ops.stack up

stop:  ## Stop what `make run` started, from another terminal
	@$(PYTHON) -m ops.stack down

status:  ## Say what runs, and where
	@$(PYTHON) -m ops.stack status

test: environment  ## Run the tests, with servers of their own
	@exec $(OWN) -m pytest -n 2 --dist loadfile

check: environment  ## Lint, type-check, and see that imports point down
	@$(OWN) -m ruff check
	@$(OWN) -m mypy
	@$(OWN) -m pytest -q tests/test_architecture.py

chaos: environment  ## Kill everything that may die, under load, and judge; CHAOS="--kills 20" for less
	@$(OWN) -m tests.chaos $(CHAOS)
	@CRASH_TIMES=$(CRASH_TIMES) exec $(OWN) -m pytest -q -n 2 tests/chaos/test_crash_points.py

bench: environment  ## Measure throughput and latency
	@exec $(OWN) -m ops.bench

lock:  ## Write requirements.lock anew from pyproject.toml
	@$(PYTHON) -m ops.bootstrap lock

clean:  ## Stop everything and remove state and environment
	@$(PYTHON) -m ops.stack clean
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage dist

environment:
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or later is needed, and none was found' >&2; exit 1; }
	@$(PYTHON) -m ops.bootstrap
