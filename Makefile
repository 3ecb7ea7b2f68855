# Gapless: `make test` proves it, `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Build output and downloads live in one cache, so that a fresh clone on a used machine is quick.
export GAPLESS_CACHE ?= $(HOME)/.cache/gapless
export CARGO_TARGET_DIR ?= $(GAPLESS_CACHE)/target
TRIPLE := x86_64-unknown-linux-gnu
BIN := $(CARGO_TARGET_DIR)/$(TRIPLE)/debug
export GAPLESS_BIN_DIR ?= $(BIN)
TESTBED := $(GAPLESS_CACHE)/bin/testbed
DENY_VERSION := 0.20.2
DENY := $(GAPLESS_CACHE)/tools/bin/cargo-deny
TAG ?= dev
IMAGES := $(GAPLESS_CACHE)/images
# No command picks packages: each would have a set of features of its own, and build every dependency anew.
TESTS := cargo test --workspace --all-features --no-fail-fast
# How long the seeded simulation of authority looks for a schedule with two holders, in seconds; that of a whole pair takes a third.
SIM_SECONDS ?= 135

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install the Debian packages that are missing
	@hack/setup

.PHONY: test
test: setup build ## Run every test but those of ten minutes
	@# A cluster of before would share the machine, and none is left, green or red.
	@trap '$(MAKE) cluster-down' EXIT; $(MAKE) cluster-down; $(MAKE) lint; $(MAKE) unit; $(MAKE) e2e

.PHONY: test-long
test-long: setup ## What is too long for `make test`: outages of minutes, half an hour of schedules, a soak: FAULTS=n SEED=s
	GAPLESS_SIM_SECONDS=$(or $(LONG_SECONDS),1800) $(TESTS) --test simulation --test pair
	@$(MAKE) cluster-up images browser
	$(TESTS) --test promises -- --test-threads=1 --nocapture --ignored
	@$(MAKE) soak FAULTS=$(or $(FAULTS),100) SEED=$(or $(SEED),$$(date +%Y%m%d))
	@$(MAKE) cluster-down

.PHONY: build
build: ## Build every program, debug profile
	@cargo build --workspace -q

.PHONY: lint
lint: setup $(DENY) ## Format, clippy, docs, licences, generated files
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -q -- -D warnings
	@# Tests that run where they are named are no part of all targets.
	cargo clippy --workspace --test process --test promises -q -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items -q
	$(DENY) --log-level error check bans licenses sources
	@$(MAKE) gen-check
	cd tests/cluster && test -z "$$(gofmt -l .)" && go vet ./...

$(DENY):
	@echo "building cargo-deny $(DENY_VERSION)"
	@# It runs for a second: optimising it would take minutes.
	@cd / && cargo install -q --locked --debug --root $(GAPLESS_CACHE)/tools cargo-deny@$(DENY_VERSION)

.PHONY: gen
gen: ## Write the generated files: CRDs
	@cargo run -q --bin crdgen

.PHONY: gen-check
gen-check: gen
	@git diff --exit-code -- crds/generated charts || { echo "generated files are stale: run 'make gen' and commit"; exit 1; }

.PHONY: unit
unit: ## Run the tests that need nothing but this machine's memory and disk
	GAPLESS_SIM_SECONDS=$(SIM_SECONDS) $(TESTS)
	cd tests/cluster && go test ./...

.PHONY: sabotage
sabotage: ## Break each invariant on purpose: the tests must turn red
	$(TESTS) --test sabotage

.PHONY: sim
sim: ## Search schedules for two holders of authority: SIM_SECONDS=n
	cargo run -p failover --features sim --example sim -- --seconds $(SIM_SECONDS)

.PHONY: e2e
e2e: process testbed-test promises soak-short ## Prove the promises: as plain processes, and on a real cluster (takes it for itself)

.PHONY: process
process: setup build browser $(TESTBED) ## Two members as plain processes: kills, failing disks, lost volumes, bad input
	@# Two at a time: they wait most of the time, each has its own ports, folders and cameras.
	$(TESTS) --test process -- --test-threads=2

.PHONY: testbed-test
testbed-test: setup $(TESTBED) ## Prove the test cluster: power cuts, links, disks
	@$(TESTBED) build
	@$(TESTBED) selftest

.PHONY: promises
promises: cluster-up images browser ## Prove the promises on the test cluster: PROMISE=name for one
	$(TESTS) --test promises -- --test-threads=1 --nocapture $(PROMISE)

.PHONY: demo
demo: cluster-up images ## Cut the power of a primary's node, and count every frame
	@cargo run -q --bin demo

.PHONY: bench-failover
bench-failover: cluster-up images ## Measure each kind of failover: QUICK=1 for under 5 minutes, ROUNDS=n, LOADED=1, KIND=k, SAMPLES=file
	@cargo run -q --bin bench_failover -- $(if $(LOADED),--loaded) $(if $(KIND),--kind $(KIND)) $(if $(SAMPLES),--samples $(SAMPLES) $(if $(QUICK),,--plain-rounds 0)) \
		$(if $(QUICK),--streams 4 --rounds 1 --plain-rounds 1,--streams 16 --rounds $(or $(ROUNDS),10))

.PHONY: bench-ingest
bench-ingest: setup ## Measure what recording costs beside ffmpeg and GStreamer: QUICK=1 for under 5 minutes
	@cargo build -q --release --bin recorder --bin replicator
	@cargo build -q --workspace
	@# It mounts disks of its own: in a mount namespace, so that none outlives it.
	@GAPLESS_BIN_DIR=$(BIN:debug=release) unshare --mount --propagation private $(BIN)/bench_ingest \
		$(if $(QUICK),--streams 10 --streams 20 --rounds 2 --seconds 8)

.PHONY: soak
soak: cluster-up images ## Random faults on a real cluster, every frame counted: FAULTS=n SEED=s KIND="k1 k2"
	@cargo run -q --bin soak -- --faults $(or $(FAULTS),300) --seed $(or $(SEED),1) --results docs/soak.md \
		$(foreach kind,$(KIND),--kind $(kind))

.PHONY: soak-short
soak-short: cluster-up images ## The soak of make test: 3 faults, other ones each day
	@cargo run -q --bin soak -- --faults 3 --seed $$(date +%Y%m%d) --anew

.PHONY: browser
browser: setup
	@cd tests/browser && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --prefer-offline --silent --no-audit --no-fund; }

.PHONY: images
images: build $(TESTBED) ## Build the container images and load them into the cluster
	@hack/images $(BIN) $(IMAGES) $(TAG)

$(TESTBED): $(wildcard tests/cluster/*.go tests/cluster/assets/*) tests/cluster/go.mod
	@mkdir -p $(@D)
	@cd tests/cluster && CGO_ENABLED=0 go build -trimpath -o $@ .

.PHONY: cluster-up
cluster-up: setup $(TESTBED) ## Start the test cluster, from any earlier state
	@$(TESTBED) build
	@$(TESTBED) up

.PHONY: cluster-down
cluster-down: $(TESTBED) ## Stop the test cluster and leave nothing behind
	@$(TESTBED) down
