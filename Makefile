# Everything runs in a virtual environment of its own, which `make clean` removes again.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NATIVE := CMakeLists.txt $(wildcard csrc/cpu/* csrc/ascend/* csrc/ascend/launcher/* csrc/emulator/* csrc/emulator/acl/*)
CXX_FILES := $(wildcard csrc/*/*.h csrc/*/*.cc csrc/*/*.cpp csrc/*/*/*.h csrc/*/*/*.cc tests/*/*.h tests/*/*.cc benchmarks/*.cc)

.PHONY: demo test test-npu build lint benchmark wheel clean check-tools

demo: build  ## deformable aggregation on a six-camera scene, forward and backward, on the CPU
	$(BIN)/python examples/six_cameras.py

test: build  ## the test suite; what this machine can run must not be skipped
	JDA_REQUIRE_CPU=1 $(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

test-npu: build  ## what needs an Ascend card; docs/ascend.md says what to install
	JDA_REQUIRE_NPU=1 $(BIN)/python -m pytest tests/npu -rPs $(PYTEST_ARGS)

build: $(VENV)/.built  ## the package, editable, with its native library

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

benchmark: build  ## tables, JSON and plots of the CPU kernels against their peers
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install -q '.[bench]'
	$(BIN)/python benchmarks/run.py

wheel: build  ## dist/: one wheel for every Python 3, and the source distribution
	$(BIN)/pip install -q build
	$(BIN)/python -m build --outdir dist

clean:
	rm -rf $(VENV) build dist

$(VENV)/.built: pyproject.toml $(NATIVE) | check-tools
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e '.[dev,notebook]'
	touch $@

check-tools:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'jda needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo 'jda builds in a virtual environment: apt-get install python3-venv'; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || \
	  { echo 'jda compiles C++: apt-get install g++'; exit 1; }
