# Two commands matter: `make book` and `make test`. Both set up what they need and do nothing twice.

PYTHON ?= python3
CONSTRAINTS ?=
BIN := .venv/bin
NOTEBOOKS := $(sort $(wildcard book/*.ipynb))
CODE := $(wildcard falw/*.py falw/*.json tests/*.py)
export OMP_NUM_THREADS = 1

.PHONY: help book test test-fast execute lint format lock clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The stamp is written last: a set-up that failed half-way starts again.
.venv/ready: requirements.txt pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
	touch $@

# MathJax for pages that need no network. The PyPI package is taken for the files in it; what it depends on is not.
book/static/vendor/mathjax: | .venv/ready
	mkdir -p book/static/vendor
	$(BIN)/python -m pip install --quiet --no-deps --target .venv/mathjax django-static-mathjax==3.2.2.1
	$(BIN)/python tools/vendor.py .venv/mathjax $@

book: _build/html/index.html  ## set up, execute what is not executed, build the book, print the file to open
	@echo "open file://$(CURDIR)/_build/html/index.html"

BOOK := _config.yml $(wildcard book/*.yml book/*.md book/*.bib book/static/*.css) $(NOTEBOOKS)

_build/html/index.html: .venv/ready $(BOOK) $(wildcard falw/*.py) | book/static/vendor/mathjax
	$(BIN)/python tools/execute.py $(NOTEBOOKS)
	$(BIN)/jupyter-book build book --config _config.yml --toc book/_toc.yml --path-output . -W -n --keep-going -q
	touch $@

test: .venv/tested  ## set up, run pytest and nbval on every notebook; says when nothing has changed since
	@echo "the log of this state's test run is .venv/tested:" && tail -n 4 .venv/tested

.venv/tested: .venv/ready $(CODE) $(BOOK) README.md Makefile tools/execute.py
	$(MAKE) --no-print-directory run-tests > $@.log 2>&1; status=$$?; cat $@.log; test $$status -eq 0
	mv $@.log $@

run-tests:
	$(BIN)/python -m pytest -n 2 tests
	$(BIN)/python -m pytest -n 2 --nbval-lax --nbval-cell-timeout=600 -p no:cacheprovider $(NOTEBOOKS)

test-fast: .venv/ready  ## pytest only, always run
	$(BIN)/python -m pytest -n 2 tests

execute: .venv/ready  ## run every notebook again, in place
	$(BIN)/python tools/execute.py --all $(NOTEBOOKS)

lint: .venv/ready  ## ruff on code and notebooks, mypy on the package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready  ## let ruff rewrite code and notebooks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/ready  ## write the versions installed here to constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | grep -v -e ' @ ' -e '^-e' > constraints.txt

clean:  ## remove what was built, keep the environment
	rm -rf _build .venv/tested runs/book
