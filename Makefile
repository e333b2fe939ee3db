# Each target does the set-up that it needs, may be run again, and works from nothing on Debian 12 as root, given cargo.
# With a reachable DOCKER_HOST that engine is used and nothing is installed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
TRIPLE := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
BIN := $(TARGET_DIR)/$(TRIPLE)/release/anchorhold
SCRIPTS := .ci/run fuzz/run $(wildcard images/*.sh)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

.PHONY: engine
engine: ## a Docker Engine that answers; installs and starts Debian's where none does
	@images/engine.sh

.PHONY: build
build: ## the release binary
	@images/tools.sh cc:build-essential git:git
	cargo build --release --locked

.PHONY: image
image: engine build ## the runtime image on that engine (base image, Codex CLI, our binary)
	@images/image.sh "$(BIN)"

.PHONY: demo
demo: image ## a delegation from start to end with a scripted model: no key, no network
	@"$(BIN)" demo

# The tests are built in the dev profile and the image holds the release binary: both carry the same build id, which is a hash of the
# sources, so that the host side under test accepts the image.
.PHONY: test
test: image weakened ## all tests, with the real engine and the real Codex CLI
	@[ -n "$${DOCKER_HOST:-}" ] || images/tools.sh docker-compose:docker-compose
	@images/codex.sh "$(TARGET_DIR)/codex"
	@images/tools.sh jq:jq
	@images/schemas.sh "$(TARGET_DIR)/schemas"
	@export $(TEST_VARIABLES) ANCHORHOLD_TEST_SCHEMAS="$$(realpath "$(TARGET_DIR)/schemas")"; \
	trap '$(CLEAN_UP)' EXIT; \
	if cargo nextest --version >/dev/null 2>&1; then \
	  set -x; cargo nextest run --locked --profile $(if $(CI),ci,default); \
	else \
	  set -x; cargo test --locked; \
	fi

# The weakened build: the attack suite's controls. Its binary and its image lie beside the product's and are never taken for them.
WEAKENED := $(TARGET_DIR)/weakened/anchorhold
TEST_VARIABLES = ANCHORHOLD_TEST_BIN="$$(realpath "$(BIN)")" ANCHORHOLD_TEST_CODEX="$$(realpath -m "$(TARGET_DIR)/codex/bin/codex")" \
  ANCHORHOLD_TEST_WEAKENED="$$(realpath "$(WEAKENED)")"
IMAGE := $(or $(ANCHORHOLD_IMAGE_NAME),anchorhold/runtime:$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1))

.PHONY: weakened
weakened: image
	cargo build --locked --features weaken
	@mkdir -p "$(dir $(WEAKENED))"; cp -f "$(TARGET_DIR)/$(TRIPLE)/debug/anchorhold" "$(WEAKENED)"
	@ANCHORHOLD_IMAGE_NAME="$(IMAGE)-weakened" "$(WEAKENED)" image build

# RUNTIME: another OCI runtime of the engine, such as runsc. ONLY: groups by part of their name. JOBS: how many at once.
ATTACK_VARIABLES = $(TEST_VARIABLES) $(if $(RUNTIME),ANCHORHOLD_ENGINE_RUNTIME="$(RUNTIME)") $(if $(JOBS),ANCHORHOLD_ATTACKS_JOBS="$(JOBS)")
CLEAN_UP = { docker rm -fv anchorhold-test-gateway; docker volume rm -f anchorhold-test-gateway-socket anchorhold-test-gateway-state; } >/dev/null 2>&1 || true

.PHONY: attacks
attacks: weakened ## the attack suite and its controls, as a table (RUNTIME=runsc, ONLY=group, JOBS=n)
	@export $(ATTACK_VARIABLES); trap '$(CLEAN_UP)' EXIT; ANCHORHOLD_ATTACKS=table cargo test --locked --test attacks -- $(ONLY)

.PHONY: attacks-mutate
attacks-mutate: weakened ## takes away each protection in turn: at least one attack must succeed
	@export $(ATTACK_VARIABLES); trap '$(CLEAN_UP)' EXIT; ANCHORHOLD_ATTACKS=mutate cargo test --locked --test attacks -- $(ONLY)

.PHONY: faults
faults: weakened ## breaks every part at every step and prints what is true afterwards (ONLY=part of an id, JOBS=n)
	@export $(TEST_VARIABLES) $(if $(JOBS),ANCHORHOLD_FAULTS_JOBS="$(JOBS)"); trap '$(CLEAN_UP)' EXIT; ANCHORHOLD_FAULTS=table cargo test --locked --test faults -- $(ONLY)

.PHONY: kills
kills: weakened ## kills at random, KILLS=1000 times with JOBS=4 users (SEED=n runs the same again), and counts what was lost, leaked or ran twice
	@export $(TEST_VARIABLES) KILLS="$(or $(KILLS),1000)" JOBS="$(or $(JOBS),4)" $(if $(SEED),SEED="$(SEED)"); trap '$(CLEAN_UP)' EXIT; ANCHORHOLD_FAULTS=kills cargo test --locked --test faults

.PHONY: faults-document
faults-document: weakened
	@export $(TEST_VARIABLES) $(if $(JOBS),ANCHORHOLD_FAULTS_JOBS="$(JOBS)"); trap '$(CLEAN_UP)' EXIT; ANCHORHOLD_FAULTS=document cargo test --locked --test faults -- $(ONLY)
.PHONY: races
races: weakened ## two processes upon one job, each race ROUNDS=200 times (ONLY=part of an id, SEED=n, JOBS=n)
	@export $(TEST_VARIABLES) ROUNDS="$(or $(ROUNDS),200)" $(if $(SEED),SEED="$(SEED)") $(if $(JOBS),ANCHORHOLD_FAULTS_JOBS="$(JOBS)"); \
	trap '$(CLEAN_UP)' EXIT; ANCHORHOLD_FAULTS=table cargo test --locked --test faults -- $(or $(ONLY),races.)

.PHONY: soak
soak: weakened ## delegations with faults at random, and what came of them (JOBS=500, MINUTES=n, AT_ONCE=8, SEED=n)
	@export $(TEST_VARIABLES) JOBS="$(or $(JOBS),500)" $(if $(MINUTES),MINUTES="$(MINUTES)") AT_ONCE="$(or $(AT_ONCE),8)" $(if $(SEED),SEED="$(SEED)"); \
	trap '$(CLEAN_UP)' EXIT; ANCHORHOLD_FAULTS=table cargo test --locked --test faults -- soak.

.PHONY: scale
scale: weakened ## AT_ONCE=32 delegations on one repository, and lists of KEPT=500 kept jobs beside the engine's own
	@export $(TEST_VARIABLES) ANCHORHOLD_FAULTS_JOBS=1 AT_ONCE="$(or $(AT_ONCE),32)" KEPT="$(or $(KEPT),500)"; \
	trap '$(CLEAN_UP)' EXIT; ANCHORHOLD_FAULTS=table cargo test --locked --test faults -- scale.delegations scale.list

.PHONY: idle
idle: weakened ## processor time of everything while RUNNING=20 jobs and SERVERS=5 servers only wait, over SECONDS=30
	@export $(TEST_VARIABLES) $(foreach name,RUNNING SERVERS SECONDS,$(if $($(name)),$(name)="$($(name))")); \
	trap '$(CLEAN_UP)' EXIT; ANCHORHOLD_FAULTS=table cargo test --locked --test faults -- scale.idle

.PHONY: attacks-document
attacks-document:
	ANCHORHOLD_ATTACKS=document cargo test --locked --test attacks

.PHONY: reference
reference: ## writes docs/REFERENCE.md anew: tools, errors, verbs and settings as they are
	ANCHORHOLD_REFERENCE=write cargo test --locked --lib the_reference_is_true

.PHONY: picture
picture: image ## runs the demo and draws docs/demo.svg of it, where what it says has changed
	@trap '$(CLEAN_UP)' EXIT; ANCHORHOLD_PICTURE=write cargo test --locked --test picture the_picture_shows

.PHONY: man
man: build ## the manual pages, in MAN_DIR (target/man)
	@"$(BIN)" man --output "$(or $(MAN_DIR),$(TARGET_DIR)/man)"

# Clients that npm has: what the README says is tried with them, too. They want the network of their registry, so this is no part of `make test`.
CLIENTS := $(TARGET_DIR)/clients
# The versions that were tried; another may be given.
CLIENT_PACKAGES := @anthropic-ai/claude-code@2.1.332 @google/gemini-cli@0.61.0
.PHONY: clients
clients: image ## the README's lines with the clients that can be had: Codex, Claude Code, Gemini CLI
	@images/codex.sh "$(TARGET_DIR)/codex"
	@images/tools.sh npm:npm
	npm install --no-audit --no-fund --prefix "$(CLIENTS)" $(CLIENT_PACKAGES)
	@export ANCHORHOLD_TEST_CODEX="$$(realpath "$(TARGET_DIR)/codex/bin/codex")" ANCHORHOLD_TEST_CLIENTS="$$(realpath "$(CLIENTS)")"; \
	trap '$(CLEAN_UP)' EXIT; cargo test --locked --test clients -- --include-ignored

# The smoke run of the same targets is part of `make test`.
.PHONY: fuzz
fuzz: ## the fuzz targets, guided by coverage: MINUTES=10 in all, TARGET=name for one, KEEP=1 keeps what was learnt
	@images/tools.sh cc:build-essential git:git
	@MINUTES="$(MINUTES)" TARGET="$(TARGET)" KEEP="$(KEEP)" fuzz/run

.PHONY: bench
bench: image ## the figures of speed and size, each beside its limit
	@export ANCHORHOLD_TEST_BIN="$$(realpath "$(BIN)")"; set -x; cargo bench --locked --bench '*'

.PHONY: lint
lint: ## formatting, clippy, shell syntax, and cargo-deny where it is installed
	cargo fmt --check
	for script in $(SCRIPTS); do bash -n "$$script"; done
	cargo clippy --locked --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then \
	  set -x; cargo deny --locked check bans licenses sources; \
	else \
	  echo 'lint: cargo-deny is not installed; tests/policy.rs checks sources, licenses and bans'; \
	fi

.PHONY: fmt
fmt: ## formats the sources
	cargo fmt

.PHONY: clean
clean: ## removes what cargo built; images, containers and volumes stay
	cargo clean
