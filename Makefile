PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench clean
.DEFAULT_GOAL := demo

# One stamp per set of packages, so that the demo does not wait for the developer's tools.
$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	touch $@

demo: $(VENV)/.run  ## run the main job on a synthetic market with the bundled model
	$(BIN)/newsfactor demo --out demo-output

test: $(VENV)/.dev  ## run the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

check: $(VENV)/.dev  ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev  ## the benchmarks that need no data folder; `make bench DATA=folder` runs all
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/planted_ic.py
	$(BIN)/python benchmarks/kill_and_resume.py
	$(BIN)/python benchmarks/store_kills.py
	$(BIN)/python benchmarks/panel_speed.py --growth 1000000 10000000
	$(BIN)/python benchmarks/honest_null.py
	$(BIN)/python benchmarks/evaluation_speed.py
	$(BIN)/python benchmarks/fine_tune.py
	$(BIN)/python benchmarks/memory_7b.py || true  # needs a GPU, and says so
	for part in speed exact batches hostile inject; do $(BIN)/python benchmarks/decoding.py $$part; done
ifdef DATA
	$(BIN)/python benchmarks/real_week.py $(DATA)
	$(BIN)/python benchmarks/bundled_model.py $(DATA)
	$(BIN)/python benchmarks/overnight.py $(DATA)
	$(BIN)/python benchmarks/linking.py $(DATA)
	$(BIN)/python benchmarks/as_of_dates.py $(DATA)
	$(BIN)/python benchmarks/store_days.py $(DATA)
	$(BIN)/python benchmarks/near_duplicates.py $(DATA)
	$(BIN)/python examples/real_news.py $(DATA)
endif

clean:
	rm -rf $(VENV) demo-output .pytest_cache .mypy_cache .ruff_cache
