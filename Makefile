# make course · make lab · make book · make test · make test-fast · make lint. Everything is installed into .venv, once per content of the lock.
#   ARGS="07 --resume"                   more words for the command that runs
#   PYTHON=/path/to/python3.11           the Python that .venv is made with
#   TORCH_INDEX=address-of-a-pip-index   take torch from there; with nothing behind the sign, from where all else comes

PROFILE ?= tiny
ARGS ?=
# On Linux without an NVIDIA GPU, torch without its 6 GB of CUDA packages. Elsewhere the default build has none.
TORCH_INDEX ?= $(shell test "$$(uname -s)" != Linux || command -v nvidia-smi >/dev/null 2>&1 || \
	echo https://download.pytorch.org/whl/cpu)
PYTHON ?= $(shell for python in python3.11 python3 python; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' </dev/null >/dev/null 2>&1 \
	&& { echo $$python; break; }; done)

BIN := .venv/bin
# The stamp is written last and named after what was installed and where, so half an install is done again.
READY := .venv/ready-$(shell { pwd; cat requirements.lock pyproject.toml; } | cksum | cut -d ' ' -f 1)
BOOK := .venv/book-$(shell cksum < docs/requirements.lock | cut -d ' ' -f 1)
# Two tests at a time, a lesson in a row on one of them: 10 GB at most. One after the other: make test ARGS="-n 0"
SIDE_BY_SIDE := -n 2 --dist loadscope --no-loadscope-reorder
FIRST_LESSON = $(firstword $(sort $(wildcard notebooks/[0-9][0-9]_*.ipynb)))

.PHONY: course book test test-fast lint lab notebooks bench rehearse full-size lock clean distclean
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

book: $(BOOK)
	$(BIN)/course book $(ARGS)

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
	@test -z "$(TORCH_INDEX)" || { echo "Fetching torch from $(TORCH_INDEX) (to choose: make TORCH_INDEX=...)." && \
	$(BIN)/python -m pip install --quiet --no-deps --retries 1 --timeout 20 --index-url $(TORCH_INDEX) \
	-c requirements.lock torch torchvision; } || echo "It could not be had there: the default build comes instead."
	$(BIN)/python -m pip install -c requirements.lock -e .
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	touch $@

# Sphinx and what it brings; a learner needs none of it.
$(BOOK): $(READY)
	$(BIN)/python -m pip install -r docs/requirements.lock
	touch $@

# Pins for every system, with markers; pins that still fit stay. To move them all: make lock ARGS=--upgrade
lock:
	$(PYTHON) -m venv build/lock-tools
	build/lock-tools/bin/python -m pip install --quiet uv
	build/lock-tools/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
		-o requirements.lock pyproject.toml $(ARGS) > build/lock-tools/log
	build/lock-tools/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
		-c requirements.lock -o docs/requirements.lock --group book $(ARGS) > build/lock-tools/log

# The same as `course clean`; where nothing is installed, nothing has run.
clean:
	@test ! -x $(BIN)/course || $(BIN)/course clean

distclean: clean
	rm -rf .venv .pytest_cache .ruff_cache *.egg-info
