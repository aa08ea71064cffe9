# make course · make test · make test-fast · make lint · make lab. Everything is installed into .venv, once per content of the lock.
#   ARGS="07 --resume"                   more words for the command that runs
#   PYTHON=/path/to/python3.11           the Python that .venv is made with
#   TORCH_INDEX=address-of-a-pip-index   take torch from there; with the CPU index, no CUDA packages

PROFILE ?= tiny
ARGS ?=
TORCH_INDEX ?=
PYTHON ?= $(shell for python in python3.11 python3 python; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' </dev/null >/dev/null 2>&1 \
	&& { echo $$python; break; }; done)

BIN := .venv/bin
# The stamp is written last and named after what was installed and where, so half an install is done again.
READY := .venv/ready-$(shell { pwd; cat requirements.lock pyproject.toml; } | cksum | cut -d ' ' -f 1)
# Two tests at a time, a lesson in a row on one of them: 10 GB at most. One after the other: make test ARGS="-n 0"
SIDE_BY_SIDE := -n 2 --dist loadgroup --no-loadscope-reorder
FIRST_LESSON = $(firstword $(sort $(wildcard notebooks/[0-9][0-9]_*.ipynb)))

# As constraints, the pins of CUDA packages matter only to a torch that asks for them.
REQUIREMENTS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX) -c requirements.lock -e .,-r requirements.lock)

.PHONY: course test test-fast lint lab notebooks bench rehearse full-size lock clean distclean
.DEFAULT_GOAL := course

course: $(READY)
	$(BIN)/course run --profile $(PROFILE) $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-fast: $(READY)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow" $(ARGS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

lab: $(READY)
	$(BIN)/jupyter-lab $(ARGS) $(FIRST_LESSON)

notebooks: $(READY)
	$(BIN)/course notebooks

bench: $(READY)
	$(BIN)/course bench $(ARGS)

rehearse: $(READY)
	$(BIN)/course rehearse $(ARGS)

full-size: $(READY)
	$(BIN)/course full-size $(ARGS)

$(READY):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with its venv module was not found." \
	"Install it (Debian and Ubuntu: apt-get install python3.11 python3.11-venv), or say where it is:" \
	"make PYTHON=/path/to/python3.11"; exit 1; } >&2
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install $(REQUIREMENTS)
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	touch $@

# Pins for every system, with markers; pins that still fit stay. To move them all: make lock ARGS=--upgrade
lock:
	$(PYTHON) -m venv build/lock-tools
	build/lock-tools/bin/python -m pip install --quiet uv
	build/lock-tools/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
		-o requirements.lock pyproject.toml $(ARGS) > build/lock-tools/log

# The same as `course clean`; where nothing is installed, nothing has run.
clean:
	@test ! -x $(BIN)/course || $(BIN)/course clean

distclean: clean
	rm -rf .venv .pytest_cache .ruff_cache *.egg-info
