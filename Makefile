# make demo   train a small model on the embedded world, evaluate it, write a report with pictures
# make test   style, types and the whole test suite (no GPU, no network)
# make bench  ratios against named peers
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DEMO := runs/panorama/demo
# these train models for minutes, run them by themselves; or they are what others share
LONG := panorama fusions marigold marigold_full sfm svd trials contest svd_base
BENCHMARKS := $(filter-out $(LONG:%=benchmarks/%.py),$(wildcard benchmarks/*.py))

.PHONY: demo test fast bench clean

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/ready
	if [ -f $(DEMO)/config.yaml ]; then $(BIN)/salticid train --resume $(DEMO); \
	else $(BIN)/salticid train panorama-tiny --run-dir $(DEMO); fi
	$(BIN)/salticid evaluate $(DEMO) --weights both
	$(BIN)/salticid report $(DEMO)

test: $(VENV)/ready
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/pyrefly check
	$(BIN)/pytest -n 2 --dist worksteal

fast: $(VENV)/ready
	$(BIN)/pytest -n 2 -m "not slow and not dist"

bench: $(VENV)/ready
	for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build src/*.egg-info
