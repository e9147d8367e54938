# make demo     reconstructs both hands of the example photo, from a fresh clone
# make test     runs all tests
# make lint     style, types and import contracts
# make clean    removes what these made

# Any Python of 3.10 to 3.12: `make demo PYTHON=python3.12` chooses one.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.10 python3 python,\
	$(shell $(name) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $(name))))
BIN := .venv/bin
DEMO_OUT ?= out/demo

# OpenMP threads that spin while they wait take the core from those that work.
export OMP_WAIT_POLICY := PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Containers often forbid Python to keep what it has compiled. Then every start compiles PyTorch anew: a photo takes 8 s instead of 4.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint clean

demo: .venv/installed-demo
	$(BIN)/twohands demo --out $(DEMO_OUT)
	@echo "The results are in $(DEMO_OUT):" && ls -1 $(DEMO_OUT)

test: .venv/installed-dev
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv out build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis src/*.egg-info
	find src tests tools benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment is made once, and filled again when what it is made from changes.
.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.10, 3.11 or 3.12 was found; install one, or run make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

# What the packages bring and nothing run from Python opens, 225 of 1,040 MB: PyTorch's C++ headers, the programs that test its C++, protobuf's compiler
# (torch_shm_manager alone is ever started), and four packages' own tests. Compiling C++ against PyTorch (torch.compile, torch.utils.cpp_extension)
# would need the headers; nothing here does. What is not there is not missed, and pip can still replace or remove every package.
PACKAGES := .venv/lib/python3.*/site-packages
define slim
@rm -rf $(PACKAGES)/torch/test $(PACKAGES)/torch/include
@find $(PACKAGES)/torch/bin -type f ! -name torch_shm_manager -delete 2>/dev/null || true
@find $(foreach name,numpy numba sympy networkx,$(PACKAGES)/$(name)) -type d -name tests -prune -exec rm -rf {} + 2>/dev/null || true
endef

.venv/installed-demo: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing into .venv; PyTorch alone takes a few minutes."
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e .
	$(slim)
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing into .venv; PyTorch alone takes a few minutes."
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev,teachers,train,video,view,fast,onnx,batch]'
	$(slim)
	@touch $@ .venv/installed-demo
