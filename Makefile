# Everything a developer or a CI runs. `make` alone lists the targets.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
CLANG_FORMAT := $(BIN)/clang-format
DRIVER_SOURCES := $(wildcard guest/driver/*.[ch])

.DEFAULT_GOAL := help
.PHONY: help setup run test test-unit test-device test-vm test-gpu fuzz lint format abi cuda workloads guests \
	deb smoke bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install what the project needs, into .venv

$(STAMP): pyproject.toml tools/system-packages
	tools/system-packages
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --group dev --editable .
	touch $@

run: setup ## Boot a guest with the device and run CUDA programs in it
	$(BIN)/vgpu-stub vm --stats -- python3 /opt/vgpu-stub/workloads/programs.py

test: setup cuda guests ## Run all tests: unit, device, VM, and GPU where there is one
	$(BIN)/pytest -n 2 --dist loadgroup tests

test-unit: setup cuda ## Run the unit tests
	$(BIN)/pytest -n 2 tests/unit

test-device: setup cuda workloads ## Run the tests over a real device server, without a VM
	$(BIN)/pytest -n 2 tests/device

test-vm: setup cuda guests ## Run the tests that boot a virtual machine
	$(BIN)/pytest tests/vm

test-gpu: setup cuda workloads ## Run the tests on a physical GPU
	$(BIN)/pytest -m gpu tests

fuzz: setup cuda ## Fuzz everything for some minutes: device, rings, parsers, driver, PTX programs
	for target in messages registers rings races images; do \
		$(BIN)/vgpu-stub fuzz $$target --seconds 30 --jobs 0 --keep || exit 1; done
	$(MAKE) --no-print-directory --silent -C guest/cuda fuzzers
	guest/cuda/build/fuzz/images -s 30
	$(BIN)/vgpu-stub fuzz ioctls --seconds 30
	$(BIN)/python -m tests.ptx_fuzz --count 1000 --mutations 500 --reduce

lint: setup ## Check style, types, layering, and that generated files are fresh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory -C guest/cuda check-format
	$(CLANG_FORMAT) --dry-run --Werror $(DRIVER_SOURCES)
	$(BIN)/python -m vgpu_stub.abi.generate --check

format: setup ## Format Python and C
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(MAKE) --no-print-directory -C guest/cuda format
	$(CLANG_FORMAT) -i $(DRIVER_SOURCES)

abi: setup ## Generate what comes from vgpu_stub/abi/schema.py and driver_api.csv
	$(BIN)/python -m vgpu_stub.abi.generate

cuda: setup ## Build the guest's CUDA libraries and their test programs
	$(MAKE) --no-print-directory --silent -C guest/cuda all tests

workloads: setup ## Compile the CUDA programs to PTX
	$(BIN)/python -m vgpu_stub.harness.build

guests: setup ## Fetch and build QEMU, kernels, drivers and images, and compile the workloads
	$(BIN)/python -m vgpu_stub.harness.build guests

deb: setup ## Write our CUDA libraries as a Debian package into dist/
	$(BIN)/python -m vgpu_stub.harness.build deb

smoke: setup ## Run the smoke tests in a guest
	$(BIN)/vgpu-stub smoke

bench: setup cuda workloads ## Measure the rings, and kill everything a few times
	$(BIN)/vgpu-stub exec --stats -- guest/cuda/build/tests/ring_latency
	$(BIN)/vgpu-stub exec -- guest/cuda/build/tests/throughput
	$(BIN)/python bench/kill_tests.py --rounds 3

clean: ## Remove what was built here (not the cache of QEMU, kernels and images)
	rm -rf .venv guest/cuda/build guest/workloads/build .mypy_cache .ruff_cache .pytest_cache
