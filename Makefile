# Everything runs in a virtual environment of its own, which `make clean` removes again.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RELEASE := build/release
MACHINE := $(shell uname -m)
NATIVE := CMakeLists.txt $(wildcard csrc/* csrc/*/* csrc/*/*/* emulator/*/* emulator/core/*/*)
CXX_FILES := $(shell git ls-files "*.h" "*.cc" "*.cpp")

.PHONY: demo docs notebooks test torch test-sanitized test-mutants test-oldest test-newest test-npu fuzz build lint benchmark wheel wheels release-check test-pure test-sdist test-aarch64 clean tools check-tools

demo: build  ## deformable aggregation on a six-camera scene, forward and backward, on the CPU
	$(BIN)/python examples/six_cameras.py

notebooks: tools  ## notebooks/*.ipynb, with their pictures, from the sources beside them
	$(BIN)/jupytext --update --to ipynb notebooks/*.py
	$(BIN)/jupyter nbconvert --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb

docs: tools  ## build/site/index.html: the documentation; whatever is amiss is an error
	@$(BIN)/python -c 'import furo' 2>/dev/null || $(BIN)/pip install -q 'jda[docs]'
	$(BIN)/python -m sphinx -n -W --keep-going -q -E -d build/site-cache -c docs/site . build/site

test: tools torch  ## the test suite; what this machine can run must not be skipped
	JDA_REQUIRE_CPU=1 $(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

test-sanitized: tools  ## the C++ of the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	JDA_SANITIZE=1 $(BIN)/python -m pytest tests/test_cxx.py tests/test_native.py $(PYTEST_ARGS)

test-mutants: tools  ## every mutant of the Ascend kernels, of which the test suite tries a sample
	$(BIN)/python -m tests.ascend.mutation --all

# What the version of JAX matters to. In a folder of their own, so that the installed package is found,
# not the sources.
JAX_TESTS := $(patsubst %,tests/test_%.py,transformations life_in_jax lowering sharding distributed half_precision \
  forward_mode errors implementations index_arrays packing libraries) tests/test_values.py::test_zoo tests/test_gradients.py::test_zoo
OLDEST := jax==0.7.2 jaxlib==0.7.2
define test_wheel
rm -rf $(1)
$(PYTHON) -m venv $(1)
$(1)/bin/pip install -q "$$(ls -t dist/*_$(MACHINE).whl | head -1)[test]" $(2)
mkdir $(1)/suite && cp -r tests docs pyproject.toml $(1)/suite
cd $(1)/suite && JDA_REQUIRE_CPU=1 ../bin/pytest -n auto --dist worksteal $(JAX_TESTS) $(PYTEST_ARGS)
endef

define test_pure
rm -rf build/pure
$(PYTHON) -m venv build/pure
build/pure/bin/pip install -q dist/*-any.whl
build/pure/bin/python release/smoke.py reference
endef
define test_sdist
rm -rf build/sdist
$(PYTHON) -m venv build/sdist
build/sdist/bin/pip install -q dist/*.tar.gz
build/sdist/bin/python release/smoke.py kernels
endef
test_aarch64 = release/aarch64.sh dist/*_aarch64.whl build/aarch64 release/smoke.py kernels

test-pure: $(RELEASE)/.tools  ## the wheel without kernels, as other platforms get it
	$(RELEASE)/bin/python release/build.py --outdir dist --only any
	$(test_pure)

test-sdist: $(RELEASE)/.tools  ## the source distribution, built where there is nothing but Python and g++
	$(RELEASE)/bin/python release/build.py --outdir dist --only any
	$(test_sdist)

test-aarch64: $(RELEASE)/.tools  ## the aarch64 wheel by qemu, on Debian: apt-get install qemu-user g++-aarch64-linux-gnu
	$(RELEASE)/bin/python release/build.py --outdir dist --only aarch64
	$(test_aarch64)

test-oldest: wheel  ## the wheel on the oldest JAX that is supported
	$(call test_wheel,build/oldest,$(OLDEST))

test-newest: wheel  ## the wheel on the newest JAX for a Python: make test-newest PYTHON=python3.13
	$(call test_wheel,build/newest,jax jaxlib)

fuzz: tools  ## calls that nobody meant, on the border of a library: make fuzz SECONDS=3600 LIBRARY=ascend (needs clang)
	$(BIN)/python -m tests.native.fuzz --seconds $(or $(SECONDS),600) --library $(or $(LIBRARY),cpu)

test-npu: tools  ## what needs an Ascend card; docs/ascend.md says what to install
	JDA_REQUIRE_NPU=1 $(BIN)/python -m pytest tests/npu -rPs $(PYTEST_ARGS)

build: $(VENV)/.built  ## the package, editable, with its native library

tools: $(VENV)/.tools  # what tests, lint and notebooks need beside it

torch: build  # large, and what only some tests and the benchmarks need
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install -q 'jda[bench]'

lint: tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

benchmark: build torch  ## tables, JSON and plots of the CPU kernels against their peers
	$(BIN)/python -m benchmarks.run

wheel: $(RELEASE)/.tools  ## dist/: the source distribution, and the wheel for this machine and any other like it
	$(RELEASE)/bin/python release/build.py --outdir dist --only $(MACHINE)

wheels: $(RELEASE)/.tools  ## dist/: the release, with wheels for x86-64, aarch64, and without kernels for all others
	rm -rf dist
	$(RELEASE)/bin/python release/build.py --outdir dist

release-check: wheels  ## the release: the same bytes twice, what it holds and needs, and installed on each JAX
	rm -rf build/again
	$(RELEASE)/bin/python release/build.py --outdir build/again
	$(RELEASE)/bin/python release/check.py dist --same-as build/again
	$(test_pure)
	$(test_sdist)
	$(test_aarch64)
	$(call test_wheel,build/oldest,$(OLDEST))
	$(call test_wheel,build/newest,jax jaxlib)

$(RELEASE)/.tools: release/requirements.txt | check-tools
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/pip install -q -r $<
	touch $@

clean:
	rm -rf $(VENV) build dist

$(VENV)/.built: pyproject.toml $(NATIVE) | check-tools
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e '.[plot]'
	touch $@

$(VENV)/.tools: $(VENV)/.built  # jda is there, and is not built again
	$(BIN)/pip install -q 'jda[dev,notebook,examples]'
	touch $@

check-tools:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'jda needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo 'jda builds in a virtual environment: apt-get install python3-venv'; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || \
	  { echo 'jda compiles C++: apt-get install g++'; exit 1; }
