# longhaul. `make demo` and `make test` do all their own set-up and say what they install.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
JOBS  ?= $(shell getconf _NPROCESSORS_ONLN)

.PHONY: beside-sanitize chaos clean-root demo test test-hosts test-quick lint chromium build native cuda test-gpu bench s3-suite setup test-data clean fuzz model-check soak outage pack-check docs help

help:
	@echo "make demo        answer questions about long documents on this machine, end to end"
	@echo "make test        lint, types, unit, native (with sanitizers), integration, browser, chaos"
	@echo "make test-quick  lint, types and unit tests"
	@echo "make chaos       every fault, the whole kill matrix; writes it into docs/reliability.md"
	@echo "make build       the addon and dist/"
	@echo "make s3-suite    checks an S3 server: ENDPOINT= [ACCESS_KEY= SECRET_KEY= REGION= BUCKET=], without one our own"
	@echo "make fuzz        every parser of outside bytes: SECONDS= for each (20), SEED= plays a finding again"
	@echo "make model-check the cohort protocol as a model: STEPS= (100000), SEED="
	@echo "make soak        small documents and random kills: MINUTES= (30), SEED=; writes docs/benchmarks/soak.md"
	@echo "make outage      S3 that takes no outcomes: OUTAGE= minutes (10)"
	@echo "make bench       benchmarks of the CPU backend and of submit"
	@echo "make cuda        the CUDA backend (needs nvcc; no GPU)"
	@echo "make test-gpu    kernels, cases, NCCL, then the pipeline, on a machine with two H100 or H200: TESTS=, ROUNDS=, ONE_GPU=1"
	@echo "make test-hosts  ranks on several hosts (network namespaces; root, Linux), one of them cut off in the middle of a prefill"
	@echo "make clean-root  infra/install.sh in a Debian 13 made for it: root, debootstrap; ROOT= keeps and reuses it"
	@echo "make pack-check  packs, installs the tarball into an empty folder, and runs the demo there"
	@echo "make docs        docs/cli.md, docs/errors.md, docs/api.md and docs/openapi.json, from the code"
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
	@npm run --silent build

demo: build
	@node bin/longhaul.js demo

# Quick checks fail first.
lint: setup
	npx eslint .
	npx prettier --check --log-level warn .
	npx knip
	npm run --silent typecheck

test-quick: lint test-data promtool build
	npx vitest run --project unit

# A browser for the tests of the dashboard; nothing else needs one.
chromium: setup
	@infra/setup/chromium.sh

# Prometheus' own checker, for the tests of infra/prometheus.
promtool: setup
	@infra/setup/promtool.sh

test: lint test-data chromium promtool build
	npx vitest run --project unit
	$(MAKE) -s -j$(JOBS) -C native test
	$(MAKE) -s fuzz SEED=1
	npx vitest run --project browser
	@$(MAKE) --no-print-directory beside-sanitize

# The tests of processes wait more than they compute: the native tests with sanitizers are built and run in what they leave.
beside-sanitize:
	@nice -n 19 $(MAKE) -s -j$(JOBS) -C native sanitize > build/sanitize.log 2>&1 & sanitize=$$!; \
	for project in integration s3-suite chaos; do \
	  npx vitest run --project $$project || { kill $$sanitize; exit 1; }; \
	done; \
	wait $$sanitize || { cat build/sanitize.log; echo 'make: the native tests with sanitizers failed'; exit 1; }; \
	tail -n 1 build/sanitize.log

chaos: setup build
	MATRIX=whole npx vitest run --project chaos

# The same checks against any server. Without BUCKET it makes one, and removes it.
s3-suite: setup
	@npx tsc -p tsconfig.build.json
	@NODE_NO_WARNINGS=1 S3_SUITE_ENDPOINT="$(ENDPOINT)" S3_SUITE_ACCESS_KEY="$(ACCESS_KEY)" S3_SUITE_SECRET_KEY="$(SECRET_KEY)" \
	  S3_SUITE_REGION="$(REGION)" S3_SUITE_BUCKET="$(BUCKET)" \
	  npx vitest run --project s3-suite --reporter=./test/s3-suite/table.ts

SECONDS := 20
export FUZZ_SECONDS = $(SECONDS)
# The native parsers run beside the others. An input that hangs is ended from outside.
fuzz: setup
	@npx tsc -p tsconfig.build.json
	@$(MAKE) --no-print-directory -s -j$(JOBS) -C native fuzz-build
	@$(MAKE) --no-print-directory -s -C native fuzz SECONDS=$(SECONDS) SEED=$(SEED) & native=$$!; \
	  FUZZ_SEED="$(SEED)" timeout $$(( 5 * $(SECONDS) + 300 )) npx vitest run --project fuzz; rc=$$?; \
	  wait $$native && exit $$rc

# The protocol under loss, doubling, reordering, crashes and clocks that run ahead; then without each of its guards.
STEPS := 100000
model-check: setup
	@MODEL_STEPS="$(STEPS)" MODEL_SEED="$(SEED)" GUARDS_TABLE=1 npx vitest run --project unit test/unit/protocol.test.ts test/unit/protocol-guards.test.ts

MINUTES := 30
soak: build
	@SOAK_MINUTES="$(MINUTES)" SOAK_SEED="$(SEED)" npx vitest run --project soak

# S3 that takes no outcomes for so long; `make chaos` has it for some seconds.
outage: build
	@OUTAGE_MINUTES="$(or $(OUTAGE),10)" MATRIX=whole npx vitest run --project chaos test/chaos/s3-writes.test.ts

bench: build
	$(MAKE) -s -C native bench
	node bench/submit.js

cuda:
	@$(MAKE) -s -j$(JOBS) -C native cuda

# Where there is no nvcc: what was built elsewhere, and a bundle in build/bundle.
test-gpu:
	@if command -v $(or $(NVCC),nvcc) >/dev/null; then $(MAKE) --no-print-directory cuda; fi
	@test/gpu/all.sh

# Namespaces of the network stand for hosts; only root can make them.
test-hosts:
	@[ "$$(id -u)" = 0 ] || { echo 'make test-hosts makes network namespaces, which only root can: sudo make test-hosts'; exit 1; }
	@command -v ip >/dev/null || { echo 'make test-hosts needs ip: apt-get install iproute2'; exit 1; }
	@$(MAKE) --no-print-directory build
	@npx vitest run --project hosts

# By night: some minutes, and 1.5 GB without a kept ROOT.
clean-root:
	@infra/clean-root.sh $(ROOT)

# The package as a stranger gets it; the integration tests have a quick form of it.
pack-check: setup
	@test/package/check.sh

# What is made from the code itself; a unit test says when it is out of date.
docs: setup
	@npx vitest run --project unit test/unit/cli-program.test.ts test/unit/docs.test.ts test/unit/gateway.test.ts -u

clean:
	rm -rf build dist coverage
