# longhaul. `make demo` and `make test` do all their own set-up and say what they install.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
JOBS  ?= $(shell getconf _NPROCESSORS_ONLN)

.PHONY: demo test test-quick lint build native cuda bench setup test-data clean help

help:
	@echo "make demo        answer questions about long documents on this machine, end to end"
	@echo "make test        lint, types, unit, native (with sanitizers), integration, chaos"
	@echo "make test-quick  lint, types and unit tests"
	@echo "make build       the addon and dist/"
	@echo "make bench       benchmarks of the CPU backend"
	@echo "make cuda        the CUDA backend (not part of this version: says so)"
	@echo "make clean       removes build outputs; keeps .longhaul/ and node_modules/"

# Packages, redis-server and a compiler: installs what is missing and names what cannot be had.
setup:
	@infra/setup/setup.sh

# Real tokenizers for the tests; no part of longhaul needs them.
test-data: setup
	@infra/setup/test-data.sh

native: setup
	@$(MAKE) --no-print-directory -s -j$(JOBS) -C native

build: native
	@npx tsc -p tsconfig.build.json

demo: build
	@node bin/longhaul.js demo

# Quick checks fail first.
lint: setup
	npx eslint .
	npx prettier --check --log-level warn .
	npx knip
	npx tsc -p tsconfig.json

test-quick: lint test-data build
	npx vitest run --project unit

test: lint test-data build
	npx vitest run --project unit
	$(MAKE) -s -j$(JOBS) -C native test
	$(MAKE) -s -j$(JOBS) -C native sanitize
	npx vitest run --project integration
	npx vitest run --project chaos

bench: build
	$(MAKE) -s -C native bench

cuda:
	@$(MAKE) -s -C native cuda

clean:
	rm -rf build dist coverage
