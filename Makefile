# make serve   from a fresh clone to a server on 127.0.0.1:8000; installs what serving needs
# make test    formatting, lint, types, import borders and tests; installs the tools for it as well
# make docs    the documentation as a site, in site/
# make page    the page of the server, from frontend/ (needs Node; serve and test do it too)
# make clean   forget the environment and all that was built

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TOOLS  := $(VENV)/.ready-dev
# a file's tests stay in one process, with its fixtures; files come by name, slow directories first
PARALLEL ?= -n auto --dist loadscope --no-loadscope-reorder
MAKE_ENV = PYTHON="$(PYTHON)" VENV="$(VENV)" TORCH_INDEX="$(TORCH_INDEX)" bash scripts/make_env.sh

.PHONY: serve test check format clean env tools page docs
.DEFAULT_GOAL := serve

serve: env page
	@$(BIN)/python -m pellucid serve $(ARGS)

test: check
	@bash scripts/front_end.sh test
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

page:
	@bash scripts/front_end.sh page

docs: env page
	@$(BIN)/python -c 'import material' 2>/dev/null || $(MAKE_ENV) docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html"

check: tools
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo

format: tools
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

env: $(READY)

tools: $(TOOLS)

$(READY): pyproject.toml constraints.txt scripts/make_env.sh
	@$(MAKE_ENV) run
	@touch $@

$(TOOLS): $(READY)
	@$(MAKE_ENV) dev
	@touch $@

clean:
	rm -rf $(VENV) dist build site src/pellucid/web frontend/node_modules frontend/test-results .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
