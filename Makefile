# All that people do with this repository, one target each. `make` or `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What is built or downloaded outside cargo's own folder lives in one cache (the test bed's scripts read it too).
export SEXTANT_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sextant

# One static executable serves as program of this machine, as image and in the demos: it needs nothing but a kernel.
TRIPLE := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET := $(or $(CARGO_TARGET_DIR),target)
export SEXTANT_BINARY ?= $(abspath $(TARGET)/$(TRIPLE)/release/sextant)
# Its relocations in the short form, which glibc reads since 2.36: 1.4 MB less of memory for each process.
PACKED = $(shell printf '%s\n' "glibc 2.36" "$$(getconf GNU_LIBC_VERSION 2>/dev/null)" | sort --version-sort --check=quiet && echo -C link-arg=-Wl,-z,pack-relative-relocs)
STATIC = -C target-feature=+crt-static $(PACKED)
BINARY_SOURCES := .cargo/config.toml $(shell find Cargo.toml Cargo.lock crates -name '*.rs' -o -name 'Cargo.*')

VENV := $(SEXTANT_CACHE)/venv/bin
# Options for pytest, for example: make test-e2e E2E="-k bad_input -x"
E2E ?=
# One target of fuzz/, for example: make fuzz FUZZ=packets FUZZ_SECONDS=300
FUZZ ?=
export FUZZ_SECONDS ?= 10

##@ See
.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## "; print "make TARGET, where TARGET is one of" } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build venv ## The average over three organizations, without a cluster: real server, three nodes, official client
	@$(VENV)/python demo/demo.py local

.PHONY: demo-kubernetes
demo-kubernetes: build venv ## The same on Kubernetes: $KUBECONFIG's cluster, or the one built here
	@tests/e2e/with-cluster $(VENV)/python demo/demo.py kubernetes

##@ Build
.PHONY: build
build: $(SEXTANT_BINARY) ## The static executable, for this machine and for the image

$(SEXTANT_BINARY): $(BINARY_SOURCES)
	@.ci/tools rust
	RUSTFLAGS="$(STATIC)" cargo build --locked --release --target $(TRIPLE) --bin sextant
	@touch -c $@; ls -l $@ | awk '{ printf "built %s, %.1f MB\n", $$NF, $$5 / 1e6 }'

.PHONY: image
image: build ## The image sextant:dev of that executable, loaded into the cluster
	testbed/images/sextant $(SEXTANT_BINARY)

##@ Test
.PHONY: test
test: lint test-unit fuzz test-chart test-e2e ## Everything that CI runs

.PHONY: lint
lint: ## Formatting, clippy without a warning, licences and sources of dependencies
	@.ci/tools rust
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@.ci/tools cargo-deny
	$(SEXTANT_CACHE)/tools/bin/cargo-deny --log-level error check bans licenses sources

# Not a part of test: it needs the network, and its answer changes without a change of the code.
.PHONY: audit
audit: ## Advisories about dependencies (RustSec). Where the database can't be had it says NOT CHECKED, with exit code 3 of .ci/audit
	@.ci/tools rust
	@.ci/tools cargo-deny
	@.ci/audit

.PHONY: test-unit
test-unit: venv ## Unit and integration tests (cargo test); no cluster needed
	@.ci/tools rust
	cargo test --locked --workspace

.PHONY: fuzz
fuzz: ## What parses what comes from outside, with input of any kind: each target of fuzz/ for FUZZ_SECONDS (10); FUZZ=name picks one
	@.ci/tools fuzz
	@fuzz/run $(FUZZ)

.PHONY: test-chart
test-chart: build venv ## The Helm chart: lint, schemas, what it makes of its values (needs Go, for helm and kubeconform)
	@testbed/build helm charts
	@$(VENV)/python -m pytest -c tests/chart/pytest.ini tests/chart

.PHONY: test-e2e
test-e2e: build venv ## End to end on a real cluster and a real server (pytest); E2E="-k name" picks some
	@tests/e2e/run $(E2E)

# The oldest version of Kubernetes that is supported: one of testbed/kube/versions, and what README.md and the chart say.
OLDEST_KUBERNETES := 1.31
.PHONY: test-versions
test-versions: build venv ## A selection of test-e2e on the oldest supported Kubernetes, 1.31 (built once, some minutes); the cluster must be down
	@SEXTANT_KUBERNETES=$(OLDEST_KUBERNETES) tests/e2e/with-cluster $(VENV)/python -m pytest -c tests/e2e/pytest.ini tests/e2e \
	  -m versions --numprocesses "$$(tests/e2e/workers)" --dist loadscope $(E2E)

.PHONY: matrix
matrix: build venv ## The whole fault matrix: each step of a run × each fault, with a table of the cells
	@SEXTANT_MATRIX=whole SEXTANT_MATRIX_REPORT=$(abspath $(TARGET))/matrix.md \
	  tests/e2e/with-cluster $(VENV)/python -m pytest -c tests/e2e/pytest.ini tests/e2e/test_matrix.py \
	  --numprocesses "$$(tests/e2e/workers)" --dist load $(E2E)

# Seconds of random tasks and faults.
SOAK_SECONDS ?= 900
.PHONY: soak
soak: build venv ## Random tasks and random faults for 15 minutes (SOAK_SECONDS), then each run is accounted for
	@SEXTANT_SOAK_SECONDS=$(SOAK_SECONDS) \
	  tests/e2e/with-cluster $(VENV)/python -m pytest -c tests/e2e/pytest.ini -s tests/e2e/test_soak.py $(E2E)

.PHONY: scale
scale: build venv ## 10,000 runs, 500 at once, on 1,000 fake machines, of which test-e2e does a fiftieth; an hour on two cores
	@SEXTANT_SCALE=whole tests/e2e/with-cluster $(VENV)/python -m pytest -c tests/e2e/pytest.ini \
	  tests/e2e/test_scale.py -s -o timeout=9000 $(E2E)

.PHONY: test-large
test-large: build venv ## Large data in its whole size, of which test-e2e does a fifth: 300 MB through the real server
	@SEXTANT_E2E_LARGE=1 tests/e2e/run test_large.py -o timeout=900 $(E2E)

##@ Measure
.PHONY: bench
bench: build venv ## Sextant against bare Jobs of the same shape: times, ratios, memory
	@tests/e2e/with-cluster $(VENV)/python bench/bench.py

.PHONY: bench-proxy
bench-proxy: build venv ## The proxy beside the regular node's own and nginx, in front of the same upstream: requests a second, memory
	@.ci/tools proxy-bench
	@$(VENV)/python bench/proxy.py "$$(testbed/regular/venv)"

.PHONY: bench-recovery
bench-recovery: build venv ## How soon a node is online again after a fault, and how soon another one takes over
	@tests/e2e/with-cluster $(VENV)/python bench/recovery.py

.PHONY: bench-regular
bench-regular: venv ## The regular vantage6 node's figures on this machine (root; needs dockerd)
	@$(VENV)/python bench/regular.py

.PHONY: bench-encryption
bench-encryption: ## Messages encrypted, beside openssl's own figure: speed, memory (no cluster)
	@.ci/tools rust
	RUSTFLAGS="$(STATIC)" cargo build --locked --release --target $(TRIPLE) -p vantage6 --example encrypt
	@python3 bench/encryption.py $(TARGET)/$(TRIPLE)/release/examples/encrypt

##@ Test bed
.PHONY: cluster-up
cluster-up: ## A real one-node Kubernetes on this machine (root; built once, some minutes)
	@testbed/cluster-up

.PHONY: cluster-down
cluster-down: ## Stops it and leaves nothing behind
	@testbed/cluster-down

.PHONY: venv
venv: ## Python with the real vantage6 server and client, and one with the algorithm tools, for tests and demos
	@testbed/server/venv >/dev/null
	@tests/e2e/algorithm-venv
	@tests/e2e/algorithm-venv 4.15.2

.PHONY: clean-cache
clean-cache: ## Removes all that was built into the cache (compiling it again takes some fifteen minutes)
	@if [ -x testbed/cluster-down ]; then testbed/cluster-down; fi
	rm -rf "$(SEXTANT_CACHE)"
