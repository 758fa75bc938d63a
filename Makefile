# make demo        install into $(VENV), then fit a red owl into outputs/demo
# make test        install, lint, check types, run tests; those in a browser need Chromium, viewers
# make viewers     install the splat viewers that the browser tests use, with npm
# make sanitize    run the native tests under AddressSanitizer and UndefinedBehaviorSanitizer
# make wheel       build a wheel with all kernels, also those for CUDA, into dist/
# make wheel-test  build a wheel, and run the native tests on it with another Python and torch
# make clean       remove everything that these commands made, except for runs in outputs/
#
# If there is a C++ compiler, the native kernels are built, and with nvcc also those for CUDA.
# ESD_SPLAT_BUILD=cuda|cpu|none makes the choice explicit.
#
# On a machine without an NVIDIA GPU, the CPU build of torch saves some gigabytes:
#   make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
VENV ?= .venv
PROMPT ?= a red owl
PIP_FLAGS ?=
# Processes that share the tests, a thread each.
WORKERS ?= 2
# More threads than cores slow down work on small tensors. The embedded teacher gains little from
# more than two threads.
export OMP_NUM_THREADS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(PIP_FLAGS)
KIND := $(VENV)/.build-$(or $(ESD_SPLAT_BUILD),most)
SETUP := pyproject.toml setup.py constraints.txt $(shell find cuda_ext -type f) $(KIND)

.PHONY: demo test lint viewers sanitize wheel wheel-test clean

demo: $(VENV)/.installed
	@echo "The demo runs configs/esd_pool.yaml, which takes a third of the time of configs/esd.yaml."
	$(BIN)/python -m esd_splat.fit --config configs/esd_pool.yaml prompt="$(PROMPT)" out=outputs/demo overwrite=true

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --ignore=tests/fakegpu
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/fakegpu

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

VIEWERS := tests/viewers/node_modules

viewers: $(VIEWERS)/.package-lock.json

# npm writes this file when the installation is complete. No package needs an install script.
$(VIEWERS)/.package-lock.json: tests/viewers/package-lock.json
	cd tests/viewers && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

SANITIZE := -fsanitize=address,undefined
NATIVE_TESTS := tests/scene/rasterize tests/scene/densify

# The normal build is always restored, as the other one aborts every Python without the preloads.
sanitize: $(VENV)/.installed-test
	trap 'exit 130' INT TERM; \
	trap 'rm -f esd_splat/_C*.so; $(BIN)/python setup.py build_ext --inplace --force' EXIT; \
	CFLAGS="-g $(SANITIZE) -fno-sanitize-recover=undefined" LDFLAGS="$(SANITIZE)" \
	  ESD_SPLAT_BUILD=cpu $(BIN)/python setup.py build_ext --inplace --force && \
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(NATIVE_TESTS)

wheel: $(VENV)/.installed-test
	ESD_SPLAT_BUILD=cuda $(BIN)/python -m build --wheel --no-isolation

OTHER_PYTHON ?= python3.12
OTHER_TORCH ?= 2.11.0
WHEEL := build/wheel-test

# The tests are copied to another folder, as they would import the package's sources here.
wheel-test: $(VENV)/.installed-test
	rm -rf build && mkdir -p $(WHEEL)
	ESD_SPLAT_BUILD=cpu $(BIN)/python -m build --wheel --no-isolation --outdir $(WHEEL)
	$(OTHER_PYTHON) -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/pip install $(PIP_FLAGS) torch==$(OTHER_TORCH) "$$(ls $(WHEEL)/*.whl)[test]"
	tar -c --exclude node_modules tests cuda_ext pyproject.toml | tar -x -C $(WHEEL)
	cd $(WHEEL) && venv/bin/python -c "import torch, esd_splat._C" && venv/bin/python -m pytest $(NATIVE_TESTS)

# Remove the kernels if ESD_SPLAT_BUILD has changed.
$(KIND):
	mkdir -p $(VENV)
	rm -f $(VENV)/.build-* esd_splat/_C.json esd_splat/_C*.so
	touch $@

# These files mark a complete installation. It is repeated when one of the $(SETUP) files changes.
$(VENV)/.installed: $(SETUP)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) setuptools torch
	$(PIP) --no-build-isolation -e .
	touch $@

$(VENV)/.installed-test: $(SETUP)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) setuptools torch
	$(PIP) --no-build-isolation -e ".[test]"
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) $(VIEWERS) build dist esd_splat/_C.json esd_splat/*.so *.egg-info .pytest_cache .ruff_cache .hypothesis lightning_logs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
