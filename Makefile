# `make help` lists the targets. Needs Rust, a C compiler, and Python 3 with pip.

CARGO ?= cargo
PYTHON ?= python3
COMPOSE ?= docker compose
SOAK_SECONDS ?= 600

onnxruntime := target/onnxruntime/$(if $(filter Darwin,$(shell uname -s)),libonnxruntime.dylib,libonnxruntime.so)

.DEFAULT_GOAL := help
.PHONY: help run test million check bench soak up onnxruntime services

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: onnxruntime ## build and start the gateway on http://127.0.0.1:8080
	$(CARGO) run --release

test: onnxruntime services ## run all tests
	$(CARGO) build --example fake-upstream --example load
	$(CARGO) test --workspace
	tests/stack.sh

million: ## the dashboard in a browser over a million calls: its figures against SQL, and how long pages take
	STIVER_TEST_CALLS=1000000 $(CARGO) test --release --test process dashboard -- --nocapture

check: ## formatting, lints and documentation, with warnings as errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

bench: onnxruntime ## what the gateway adds to a call, stage by stage (minutes)
	$(CARGO) build --release --bin stiver --example fake-upstream --example load
	$(PYTHON) benches/overhead.py

soak: onnxruntime ## the gateway's memory under load for SOAK_SECONDS (600)
	$(CARGO) build --release --bin stiver --example fake-upstream --example load
	$(PYTHON) benches/overhead.py --configs benches/soak --soak $(SOAK_SECONDS)

up: ## gateway, Redis, Qdrant, Prometheus and Grafana in containers
	$(COMPOSE) up --build

# Without the library the gateway starts, too: it has no semantic cache then, and scores by a heuristic.
onnxruntime: $(onnxruntime)

$(onnxruntime):
	sh scripts/fetch-onnxruntime.sh target/onnxruntime

# Some tests start a Redis, a Postgres and a browser of their own. Only root of a machine with apt gets them installed.
services:
	@{ command -v redis-server && command -v chromium && command -v chromedriver && ls /usr/lib/postgresql/*/bin/postgres; } >/dev/null 2>&1 \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && sh scripts/install-services.sh; } \
	|| echo "redis-server, postgresql or chromium is missing: tests that need them are skipped"
