# Everything runs in a virtual environment of its own, which `make clean` removes again.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NATIVE := CMakeLists.txt $(wildcard csrc/* csrc/*/* csrc/*/*/* emulator/*/* emulator/core/*/*)
CXX_FILES := $(shell git ls-files "*.h" "*.cc" "*.cpp")

.PHONY: demo docs notebooks test torch test-sanitized test-mutants test-oldest test-newest test-npu fuzz build lint benchmark wheel clean check-tools

demo: build  ## deformable aggregation on a six-camera scene, forward and backward, on the CPU
	$(BIN)/python examples/six_cameras.py

notebooks: build  ## notebooks/*.ipynb, with their pictures, from the sources beside them
	$(BIN)/jupytext --update --to ipynb notebooks/*.py
	$(BIN)/jupyter nbconvert --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb

docs: build  ## build/site/index.html: the documentation; whatever is amiss is an error
	@$(BIN)/python -c 'import furo' 2>/dev/null || $(BIN)/pip install -q -e '.[docs]'
	$(BIN)/python -m sphinx -n -W --keep-going -q -E -d build/site-cache -c docs/site . build/site

test: build torch  ## the test suite; what this machine can run must not be skipped
	JDA_REQUIRE_CPU=1 $(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

test-sanitized: build  ## the C++ of the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	JDA_SANITIZE=1 $(BIN)/python -m pytest tests/test_cxx.py tests/test_native.py $(PYTEST_ARGS)

test-mutants: build  ## every mutant of the Ascend kernels, of which the test suite tries a sample
	$(BIN)/python -m tests.ascend.mutation --all

# What the version of JAX matters to. In a folder of their own, so that the installed package is found,
# not the sources.
JAX_TESTS := $(patsubst %,tests/test_%.py,transformations life_in_jax lowering sharding distributed half_precision \
  forward_mode errors implementations index_arrays packing) tests/test_values.py::test_zoo tests/test_gradients.py::test_zoo
define test_wheel
rm -rf $(1)
$(PYTHON) -m venv $(1)
$(1)/bin/pip install -q "$$(ls -t dist/*.whl | head -1)[test]" $(2)
mkdir $(1)/suite && cp -r tests docs pyproject.toml $(1)/suite
cd $(1)/suite && JDA_REQUIRE_CPU=1 ../bin/pytest -n auto $(JAX_TESTS) $(PYTEST_ARGS)
endef

test-oldest: wheel  ## the wheel on the oldest JAX that is supported
	$(call test_wheel,build/oldest,jax==0.7.2 jaxlib==0.7.2)

test-newest: wheel  ## the wheel on the newest JAX for a Python: make test-newest PYTHON=python3.13
	$(call test_wheel,build/newest,jax jaxlib)

fuzz: build  ## calls that nobody meant, on the border of the CPU library: make fuzz SECONDS=3600 (needs clang)
	$(BIN)/python -m tests.native.fuzz --seconds $(or $(SECONDS),600)

test-npu: build  ## what needs an Ascend card; docs/ascend.md says what to install
	JDA_REQUIRE_NPU=1 $(BIN)/python -m pytest tests/npu -rPs $(PYTEST_ARGS)

build: $(VENV)/.built  ## the package, editable, with its native library

torch: build  # large, and what only some tests and the benchmarks need
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install -q -e '.[bench]'

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

benchmark: build torch  ## tables, JSON and plots of the CPU kernels against their peers
	$(BIN)/python -m benchmarks.run

wheel: build  ## dist/: one wheel for every Python 3, and the source distribution
	$(BIN)/pip install -q build
	$(BIN)/python -m build --outdir dist

clean:
	rm -rf $(VENV) build dist

$(VENV)/.built: pyproject.toml $(NATIVE) | check-tools
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e '.[dev,notebook,examples]'
	touch $@

check-tools:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'jda needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo 'jda builds in a virtual environment: apt-get install python3-venv'; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || \
	  { echo 'jda compiles C++: apt-get install g++'; exit 1; }
