# make serve   from a fresh clone to a server on 127.0.0.1:8000
# make test    formatting, lint, types, import borders and tests
# make clean   forget the environment and all that was built

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: serve test check format clean env
.DEFAULT_GOAL := serve

serve: env
	@$(BIN)/python -m pellucid serve $(ARGS)

test: check
	@$(BIN)/python -m pytest $(ARGS)

check: env
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo

format: env
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

env: $(READY)

$(READY): pyproject.toml constraints.txt scripts/make_env.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash scripts/make_env.sh
	@touch $@

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
