# Everything that people do with this repository, one target each. `make` or `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# One cache holds everything that is built or downloaded outside of cargo's folder. The test bed's scripts use it, too.
export SEXTANT_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sextant

# If rustup neither has the toolchain of rust-toolchain.toml nor can download it, use its default toolchain.
ifeq (,$(shell rustc -V 2>/dev/null))
ifneq (,$(shell command -v rustup))
export RUSTUP_TOOLCHAIN := $(firstword $(shell rustup default 2>/dev/null))
$(warning The Rust toolchain of rust-toolchain.toml is not installed; using $(or $(RUSTUP_TOOLCHAIN),none))
endif
endif

# The same static executable serves on this machine, in the image and in the demos: it needs only a kernel.
TRIPLE := $(shell $(if $(RUSTUP_TOOLCHAIN),RUSTUP_TOOLCHAIN=$(RUSTUP_TOOLCHAIN)) rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET := $(or $(CARGO_TARGET_DIR),target)
export SEXTANT_BINARY ?= $(abspath $(TARGET)/$(TRIPLE)/release/sextant)
# Packed relocations, which glibc supports since 2.36, save 1.4 MB of memory for each process.
PACKED = $(shell printf '%s\n' "glibc 2.36" "$$(getconf GNU_LIBC_VERSION 2>/dev/null)" | sort --version-sort --check=quiet && echo -C link-arg=-Wl,-z,pack-relative-relocs)
STATIC = -C target-feature=+crt-static $(PACKED)
BINARY_SOURCES := .cargo/config.toml $(shell find Cargo.toml Cargo.lock crates -name '*.rs' -o -name 'Cargo.*')

VENV := $(SEXTANT_CACHE)/venv/bin
# Options for pytest, for example: make test-e2e E2E="-k bad_input -x"
E2E ?=
# One target of fuzz/, for example: make fuzz FUZZ=packets FUZZ_SECONDS=300
FUZZ ?=
export FUZZ_SECONDS ?= 10

##@ Try
.PHONY: help
help: ## List all targets
	@awk 'BEGIN { FS = ":.*## "; print "make TARGET, where TARGET is one of" } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build venv ## Compute an average over three organizations without a cluster: real server, three nodes, official client
	@$(VENV)/python demo/demo.py local

.PHONY: demo-kubernetes
demo-kubernetes: build venv ## Do the same on Kubernetes: on $KUBECONFIG's cluster, or on one built here
	@tests/e2e/with-cluster $(VENV)/python demo/demo.py kubernetes

##@ Build
.PHONY: build
build: $(SEXTANT_BINARY) ## Build the static executable, for this machine and for the image

$(SEXTANT_BINARY): $(BINARY_SOURCES)
	@.ci/tools rust
	RUSTFLAGS="$(STATIC)" cargo build --locked --release --target $(TRIPLE) --bin sextant
	@touch -c $@; ls -l $@ | awk '{ printf "built %s, %.1f MB\n", $$NF, $$5 / 1e6 }'

.PHONY: image
image: build ## Build the image sextant:dev from that executable and load it into the cluster
	testbed/images/sextant $(SEXTANT_BINARY)

##@ Test
.PHONY: test
test: lint test-unit fuzz test-chart test-release test-e2e ## Run everything that CI runs

.PHONY: lint
lint: ## Check formatting, clippy, and licences and sources of dependencies, workflows
	@.ci/tools rust
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@.ci/tools cargo-deny
	$(SEXTANT_CACHE)/tools/bin/cargo-deny --log-level warn check bans licenses sources
	@if command -v go >/dev/null; then testbed/build workflows && $(SEXTANT_CACHE)/built/workflows/actionlint; \
	  else echo "*** NOT CHECKED: the workflows in .github, because actionlint has to be built and there is no Go" >&2; fi

# Not part of `test`: it needs the network, and its result changes without a change of the code.
.PHONY: audit
audit: ## Look up advisories about dependencies (RustSec); without the database, print NOT CHECKED and fail
	@.ci/tools rust
	@.ci/tools cargo-deny
	@.ci/audit

.PHONY: test-unit
test-unit: venv ## Run unit and integration tests, and check links of documents; no cluster needed
	@.ci/tools rust
	cargo test --locked --workspace
	@$(VENV)/python -m pytest -c tests/docs/pytest.ini tests/docs

.PHONY: fuzz
fuzz: ## Run each target of fuzz/ for FUZZ_SECONDS (10); FUZZ=name selects one
	@.ci/tools fuzz
	@fuzz/run $(FUZZ)

.PHONY: test-chart
test-chart: build venv ## Test the Helm chart: lint, schemas, rendered manifests (needs Go, for helm and kubeconform)
	@testbed/build helm charts
	@$(VENV)/python -m pytest -c tests/chart/pytest.ini tests/chart

.PHONY: test-release
test-release: build venv ## Test what a release contains, packed twice from the executable that is built anyway (needs Go, for helm and crane)
	@testbed/build helm registry
	@$(VENV)/python -m pytest -c tests/release/pytest.ini tests/release/test_release.py

# Not part of `test`: cosign takes minutes to compile, once.
.PHONY: test-signatures
test-signatures: build venv ## Test that a signed release verifies, and a changed one does not (needs Go, for cosign)
	@testbed/build helm registry signing
	@$(VENV)/python -m pytest -c tests/release/pytest.ini tests/release/test_signatures.py

.PHONY: test-e2e
test-e2e: build venv ## Test end to end on a real cluster and a real server (pytest); E2E="-k name" selects tests
	@tests/e2e/run $(E2E)

# The oldest supported Kubernetes: one of testbed/kube/versions. README.md and the chart name it too.
OLDEST_KUBERNETES := 1.31
.PHONY: test-versions
test-versions: build venv ## Run a selection of test-e2e on the oldest supported Kubernetes, 1.31 (compiled once, some minutes); stop the cluster first
	@SEXTANT_KUBERNETES=$(OLDEST_KUBERNETES) tests/e2e/with-cluster $(VENV)/python -m pytest -c tests/e2e/pytest.ini tests/e2e \
	  -m versions --numprocesses "$$(tests/e2e/workers)" --dist loadscope $(E2E)

.PHONY: matrix
matrix: build venv ## Run the complete fault matrix: each step of a run × each fault; writes a table
	@SEXTANT_MATRIX=whole SEXTANT_MATRIX_REPORT=$(abspath $(TARGET))/matrix.md \
	  tests/e2e/with-cluster $(VENV)/python -m pytest -c tests/e2e/pytest.ini tests/e2e/test_matrix.py \
	  --numprocesses "$$(tests/e2e/workers)" --dist load $(E2E)

# How long to run random tasks and faults, in seconds.
SOAK_SECONDS ?= 900
.PHONY: soak
soak: build venv ## Run random tasks and faults for 15 minutes (SOAK_SECONDS), then account for each run
	@SEXTANT_SOAK_SECONDS=$(SOAK_SECONDS) \
	  tests/e2e/with-cluster $(VENV)/python -m pytest -c tests/e2e/pytest.ini -s tests/e2e/test_soak.py $(E2E)

.PHONY: scale
scale: build venv ## Run 10,000 runs, 500 at once, on 1,000 fake machines; an hour on two cores (test-e2e runs a fiftieth)
	@SEXTANT_SCALE=whole tests/e2e/with-cluster $(VENV)/python -m pytest -c tests/e2e/pytest.ini \
	  tests/e2e/test_scale.py -s -o timeout=9000 $(E2E)

.PHONY: test-large
test-large: build venv ## Send 300 MB through the real server (test-e2e sends a fifth)
	@SEXTANT_E2E_LARGE=1 tests/e2e/run test_large.py -o timeout=900 $(E2E)

##@ Release
# Where it goes. What else there is to set: release/run.
DIST ?= dist

.PHONY: release
release: ## Make dist/VERSION: executable, image, chart, manifests, SBOM, bundle, checksums; COSIGN_KEY=FILE signs them
	@.ci/tools rust
	@STATIC="$(STATIC)" release/run $(DIST) $(abspath $(TARGET))/dist

.PHONY: release-binary
release-binary: ## Build only this machine's executable of a release, in dist
	@.ci/tools rust
	@binary=$$(STATIC="$(STATIC)" release/build $(abspath $(TARGET))/dist) && mkdir -p $(DIST) && \
	  install -m 755 "$$binary" $(DIST)/sextant-linux-$(subst x86_64,amd64,$(subst aarch64,arm64,$(shell uname -m)))

.PHONY: release-check
release-check: ## Build the last commit twice in different folders and compare every byte (half an hour on two cores)
	@.ci/tools rust
	@release/check "$(SEXTANT_CACHE)/release-check"

##@ Measure
.PHONY: bench
bench: build venv ## Compare Sextant with plain Jobs of the same shape: times, ratios, memory
	@tests/e2e/with-cluster $(VENV)/python bench/bench.py

.PHONY: bench-proxy
bench-proxy: build venv ## Compare the proxy with the regular node's and nginx, for the same upstream: requests a second, memory
	@.ci/tools proxy-bench
	@$(VENV)/python bench/proxy.py "$$(testbed/regular/venv)"

.PHONY: bench-recovery
bench-recovery: build venv ## Measure how soon a node is online after a fault, and how soon a standby takes over
	@tests/e2e/with-cluster $(VENV)/python bench/recovery.py

.PHONY: bench-regular
bench-regular: venv ## Measure the regular vantage6 node on this machine (root; needs dockerd)
	@$(VENV)/python bench/regular.py

.PHONY: bench-encryption
bench-encryption: ## Measure encryption, compared with openssl: speed, memory (no cluster)
	@.ci/tools rust
	RUSTFLAGS="$(STATIC)" cargo build --locked --release --target $(TRIPLE) -p vantage6 --example encrypt
	@python3 bench/encryption.py $(TARGET)/$(TRIPLE)/release/examples/encrypt

##@ Test bed
.PHONY: cluster-up
cluster-up: ## Start a real one-node Kubernetes on this machine (root; built once, about 15 minutes)
	@testbed/cluster-up

.PHONY: cluster-down
cluster-down: ## Stop it and leave nothing behind
	@testbed/cluster-down

.PHONY: venv
venv: ## Install Python with the real vantage6 server and client, and with the algorithm tools, for tests and demos
	@testbed/server/venv >/dev/null
	@tests/e2e/algorithm-venv
	@tests/e2e/algorithm-venv 4.15.2

.PHONY: clean-cache
clean-cache: ## Remove everything from the cache (compiling it again takes about 15 minutes)
	@if [ -x testbed/cluster-down ]; then testbed/cluster-down; fi
	rm -rf "$(SEXTANT_CACHE)"
