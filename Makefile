# What can be done here; `make` alone lists it. Cargo's own settings (CARGO_TARGET_DIR and the like) are
# honored. The recipes are thin: what takes more than a few lines lives in scripts/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BROKER ?= embedded
STORE ?= sqlite
JOBS ?= 5000
KILLS ?= 60
SECONDS ?= 180
COORDINATORS ?= 1
SEED ?= 1
# Recorded traces are used, not shipped: some licenses allow study only.
TRACES ?= ../shared/traces
CARGO ?= cargo
# The lock file is part of what is tested.
LOCKED ?= --locked
# Seeds of `make sim`.
SEEDS ?= 20000
# Virtual hours of its autoscalers.
HOURS ?= 10000

.PHONY: help build build-ec2 demo test sim lint fmt deny each-alone engine-cuda check-cuda test-gpu bench bench-autoscaler bench-residency traces-check \
	chaos soak model test-tokenizer test-whisper deps clean check-infra check-dashboards infra-tools

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name what; do \
		printf '  make %-16s %s\n' "$$name" "$$what"; done

# Built by themselves: with the tests' crate beside them they would get its features, crash points above all.
PROGRAMS := -p stoker-cli -p stoker-coordinator -p stoker-worker -p stoker-engine-api -p stoker-engine -p stoker-autoscaler

build: ## the programs, optimized, in target/release
	$(CARGO) build --release $(LOCKED) $(PROGRAMS)

build-ec2: ## the programs with an autoscaler that buys from EC2: 8 GB of memory and some minutes more
	$(CARGO) build --release $(LOCKED) $(PROGRAMS) --features stoker-autoscaler/ec2

demo: ## embed a corpus on this machine and kill a worker; then a fleet that scales by itself (BROKER=embedded|rabbitmq)
	@CARGO='$(CARGO)' scripts/demo.sh '$(BROKER)'

test: deps model ## unit, property, contract and end-to-end tests, on a private RabbitMQ and Postgres
	@CARGO='$(CARGO)' scripts/test.sh

sim: ## simulate the job protocol (SEEDS=20000) and the autoscaler (HOURS=10000) under faults, then seeded bugs that must be found
	@$(CARGO) run $(LOCKED) -q -p stoker-sim -- protocol --seeds '$(SEEDS)'
	@$(CARGO) run $(LOCKED) -q -p stoker-sim -- sabotage
	@$(CARGO) run $(LOCKED) -q --release -p stoker-sim -- machines --hours '$(HOURS)'
	@$(CARGO) run $(LOCKED) -q --release -p stoker-sim -- machines --hours 1000 --all-sabotages

lint: ## formatting, clippy, documentation, spelling and dependency policy, warnings as errors
	@CARGO='$(CARGO)' scripts/lint.sh

fmt: ## format the Rust code
	$(CARGO) fmt --all

deny: ## check dependencies against deny.toml; installs cargo-deny first where it is missing
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked
	$(CARGO) deny $(LOCKED) check

each-alone: ## check that every crate compiles without what the others turn on
	@CARGO='$(CARGO)' scripts/each-alone.sh

engine-cuda: ## the engine for one generation of NVIDIA GPUs, beside the other programs (CUDA_COMPUTE_CAP=90)
	@CARGO='$(CARGO)' scripts/engine-cuda.sh

check-cuda: ## build the engine for NVIDIA GPUs on a machine without one, and see that it says so
	@CARGO='$(CARGO)' scripts/check-cuda.sh

infra-tools: ## fetch the tools of check-infra into .cache/infra, once
	@scripts/infra-tools.sh

check-infra: infra-tools ## Terraform, units, scripts, alert rules and dashboards of infra/, without a cloud
	@scripts/check-infra.sh

check-dashboards: infra-tools ## load every query of infra/observability into a real Prometheus that scrapes a running fleet
	$(CARGO) build $(LOCKED) $(PROGRAMS)
	@scripts/check-dashboards.sh

test-gpu: ## the engine on an NVIDIA GPU against the CPU; skipped without one, unless STOKER_REQUIRE_GPU=1
	@CARGO='$(CARGO)' scripts/test-gpu.sh

bench: ## measure this machine, what Stoker is compared with, and Stoker, in one run
	@CARGO='$(CARGO)' scripts/bench.sh

chaos: deps ## kill, freeze and cut off a fleet under load, and check that the promise holds (JOBS, KILLS, SECONDS, SEED, BROKER, STORE, COORDINATORS)
	$(CARGO) build $(LOCKED) --workspace --bins
	@CARGO='$(CARGO)' scripts/chaos.sh --coordinators '$(COORDINATORS)' --jobs '$(JOBS)' --kills '$(KILLS)' --seconds '$(SECONDS)' --seed '$(SEED)' --broker '$(BROKER)' --store '$(STORE)'

soak: deps ## steady load with faults, and check that memory, files and store stay flat (SECONDS, BROKER, STORE)
	$(CARGO) build $(LOCKED) --workspace --bins
	@CARGO='$(CARGO)' scripts/chaos.sh --mode soak --jobs "$$(($(SECONDS) * 20))" --kills "$$(($(SECONDS) / 20))" --seconds '$(SECONDS)' --seed '$(SEED)' --broker '$(BROKER)' --store '$(STORE)'

bench-autoscaler: ## every scaling policy on every recorded trace, into docs/autoscaling (TRACES=folder)
	$(CARGO) run --release $(LOCKED) -p stoker-sim -- fleet bench '$(TRACES)' docs/autoscaling

bench-residency: ## 50 models on a device for a dozen: the rule against plain LRU, simulated
	@$(CARGO) run --release $(LOCKED) -q -p stoker-sim -- residency

traces-check: ## whether the recorded traces are there, and the simulator agrees with another one
	$(CARGO) run --release $(LOCKED) -p stoker-sim -- fleet traces '$(TRACES)'
	$(CARGO) run --release $(LOCKED) -p stoker-sim -- fleet cross-check '$(TRACES)'

model: ## fetch the model of demo and tests into .cache/models, once
	@scripts/deps.sh build
	@scripts/fetch-model.sh

test-tokenizer: ## fetch a small model that generates, and compare the tokens of its vocabulary with those of llama.cpp
	@scripts/deps.sh build
	@scripts/fetch-model.sh --smollm2
	$(CARGO) test $(LOCKED) -p stoker-engine --test generation -- --ignored

test-whisper: ## fetch Whisper tiny.en, and have it write down a sentence that a machine speaks
	@scripts/deps.sh build
	@scripts/fetch-model.sh --whisper
	$(CARGO) test $(LOCKED) -p stoker-engine --test speech -- --ignored

deps: ## install what the tests need from the system, or say what to install
	@scripts/deps.sh test

clean: ## remove build results and the demo's data; downloaded models stay
	$(CARGO) clean
	rm -rf .stoker
