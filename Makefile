# Two commands matter: `make demo` tells the whole story, `make test` proves it. Both set everything up.
PYTHON ?= python3
WORKERS ?= 3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test check unit setup format proto reference fuzz fuzz-million soak bench mutations sbom lock clean

demo: setup            ## run the main job end to end on embedded defaults
	$(BIN)/python -m examples.demo

test: check unit       ## everything that needs no outside server

check: setup           ## formatting, lint, types, import rules, protocol files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/proto.py check
	$(BIN)/python tools/proto.py lint
	$(BIN)/python tools/reference.py check
	$(BIN)/python tools/mutate.py check

# The tests start some hundred processes and make some thousand databases, each of which waits for the disk with
# every commit. So bytecode is written whatever the environment says, and temporary files lie in memory where
# there is enough of it; a run leaves nothing there. Of three workers on two cores one always waits for something.
unit: setup
	@folder=$$(mktemp -d "$$($(BIN)/python tools/scratch.py)/sluicegate-XXXXXX") && \
	    trap 'rm -rf "$$folder"' EXIT && trap 'exit 130' INT TERM && \
	    TMPDIR="$$folder" PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

setup: $(READY)

# uv when it is there, else pip. Hashes are checked either way; nothing is compiled.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Sluicegate runs on Python 3.11 to 3.13, and $(PYTHON) is {v[0]}.{v[1]}; name another: make PYTHON=python3.13")'
	@if command -v uv >/dev/null 2>&1; then \
	    uv venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV) && \
	    VIRTUAL_ENV=$(VENV) uv pip install --quiet --require-hashes -r requirements.lock && \
	    VIRTUAL_ENV=$(VENV) uv pip install --quiet --no-deps --no-build-isolation -e . ; \
	else \
	    $(PYTHON) -m venv $(VENV) && \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@

format: setup          ## write formatting and safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: setup           ## regenerate exchange/v1 from proto/
	$(BIN)/python tools/proto.py generate

reference: setup       ## write docs/reference/ from the code
	$(BIN)/python tools/reference.py write

fuzz: setup            ## strangers' bytes at every entrance, guided by coverage; SECONDS for each of them
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade >/dev/null
	[ -d .tools/fuzz ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target .tools/fuzz atheris==3.0.0
	PYTHONPATH=$(CURDIR)/.tools/fuzz $(BIN)/python -m tests.fuzz.run --guided --seconds $(or $(SECONDS),12)

fuzz-million: setup    ## work off what the project's million inputs still lack; counts them in tests/fuzz/history.tsv
	$(BIN)/python -m tests.fuzz.run --owed --plain

soak: setup            ## a long day of power cuts; KILLS of them
	$(BIN)/python -m tests.attacks.day --kills $(or $(KILLS),200)

bench: setup           ## benchmarks side by side with peers; writes benchmarks/results/
	$(BIN)/python -m benchmarks.run

mutations: setup       ## take every defence out in turn; a test must notice each
	$(BIN)/python tools/mutate.py run

sbom: setup            ## write build/sbom.cdx.json, a bill of what the lock installs (CycloneDX)
	$(BIN)/python tools/sbom.py build/sbom.cdx.json

lock:                  ## resolve requirements.lock anew (needs uv)
	uv pip compile --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --all-extras \
	    --python-version 3.11 pyproject.toml -o requirements.lock
	echo cyclonedx-bom==7.5.0 | uv pip compile --universal --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --python-version 3.11 - -o tools/sbom.lock

clean:
	rm -rf $(VENV) build demo
