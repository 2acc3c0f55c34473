# Everything that one does to Nylon by hand. `make` alone lists the targets.
#
# All of them work in a virtual environment of their own (.venv), made when it is missing and brought up to date when
# pyproject.toml or the Rust sources change; nothing outside the working copy is touched but cargo's and pip's caches.
# The extension is built in release mode, also for the tests: they check what users run, and the wheel, `pip install .`
# and `make demo` share that one build. While editing Rust, `make test PROFILE=dev` saves the optimising.

PYTHON ?= python3
PROFILE ?= release
SECONDS ?= 60
JOBS ?= 3
VENV := .venv
BIN := $(VENV)/bin
GO ?= $(or $(shell command -v go),/usr/local/go/bin/go)
GO_MODULES := $(patsubst %/go.mod,%,$(wildcard sdk/go/go.mod examples/*/go.mod tests/*/native/go/go.mod benches/*/go/go.mod benches/load/libraries/go/go.mod))

RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml)
INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built-$(PROFILE)

export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build demo test test-rust test-python test-go test-load test-conformance chaos fuzz native-check lint lint-rust lint-python lint-go format bench bench-native bench-nats bench-micro wheel wheel-check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(BUILT)  ## build Nylon and see it work: a gateway, a NATS server, two workers, real requests
	$(BIN)/nylon demo --check
	@echo
	@echo "To keep it running and try it yourself: $(BIN)/nylon demo"

test: lint test-rust test-go test-python  ## everything that must pass: lints, types, cargo test, go test, pytest

test-load: $(BUILT)  ## the tests under load with their full numbers of requests (minutes)
	NYLON_FULL_LOAD=1 $(BIN)/pytest tests/failure/test_denying.py

test-conformance: $(BUILT)  ## the cases of others: h2spec, smuggled requests, a scan of TLS (part of `make test`; needs go)
	$(BIN)/pytest tests/conformance

chaos: $(BUILT)  ## kill, freeze and restart what can be, for SECONDS a scenario, under a load whose every answer is checked
	PYTHONPATH=tests:tests/failure $(BIN)/python -m chaos $(SECONDS)

fuzz:  ## feed every decoder with what nobody would send, for SECONDS in all (needs a C++ compiler)
	$(PYTHON) fuzz/run.py $(SECONDS)

native-check:  ## run the C helper and the native host under valgrind (needs valgrind)
	$(PYTHON) tests/native/check.py

lint: lint-python lint-rust lint-go  ## rustfmt, clippy, ruff, mypy --strict, stubtest, gofmt, go vet

format: $(INSTALLED)  ## rewrite the sources in the project's style
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml
	cargo fmt --manifest-path examples/native-rust/Cargo.toml
	$(BIN)/ruff check --fix-only --exit-zero .
	$(BIN)/ruff format .
	$(GO)fmt -w $(GO_MODULES)

bench: $(BUILT)  ## measure against other proxies, in one run (needs wrk, h2load, nginx, haproxy)
	$(BIN)/python benches/load/run.py

bench-native: $(BUILT)  ## measure what native plugins in C, Rust and Go add to a request (needs wrk, nginx, go)
	$(BIN)/python benches/load/run.py --native --rounds 15 --seconds 3 --output benches/load/run/native

bench-nats: $(BUILT)  ## measure calls over NATS: worker, gateway, scaling (needs wrk, nginx)
	cargo build --release --locked -p nylon-benches
	$(BIN)/python benches/nats/run.py

bench-micro: $(BUILT)  ## measure frames, in Rust and in Python, and the dispatch to a native plugin (needs a C compiler)
	cargo bench --locked -p nylon-benches
	$(BIN)/pytest benches/python --benchmark-enable --benchmark-only --benchmark-columns=min,median,mean,stddev,rounds

wheel: $(INSTALLED)  ## build the wheel into dist/
	rm -rf dist
	$(BIN)/maturin build --release --locked --out dist

wheel-check: wheel  ## install the wheel and the source tree into empty environments and run the demo there
	$(BIN)/python tests/wheel_check.py dist

clean:  ## remove everything that was built
	rm -rf $(VENV) dist target fuzz/corpus fuzz/findings python/nylon/_core*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find python tests examples benches fuzz -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

build: $(BUILT)

# ── parts of the above ──

lint-rust: $(INSTALLED)
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo fmt --manifest-path examples/native-rust/Cargo.toml --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --manifest-path examples/native-rust/Cargo.toml --target-dir target --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --no-deps -p nylon-plugin

lint-python: $(BUILT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=python $(BIN)/python -m mypy.stubtest nylon._core

# The tests of the NATS side start a real nats-server, the one that the wheel brings.
test-rust: $(BUILT)
	NYLON_NATS_SERVER=$(CURDIR)/$(BIN)/nats-server cargo test --workspace --locked

lint-go:
	@unformatted="$$($(GO)fmt -l $(GO_MODULES))" && test -z "$$unformatted" || { echo "not as gofmt would have it: $$unformatted"; exit 1; }
	for module in $(GO_MODULES); do (cd $$module && $(GO) vet ./...) || exit 1; done

# With the race detector, but for the modules that only use the SDK: those are built and run by pytest.
test-go: $(BUILT)
	cd sdk/go && NYLON_NATS_SERVER=$(CURDIR)/$(BIN)/nats-server $(GO) test -race -count=1 ./...

# Most of them wait for processes that they started, so several run side by side.
test-python: $(BUILT)
	$(BIN)/pytest -n $(JOBS) -m 'not alone'
	$(BIN)/pytest -m alone

# ── the virtual environment ──

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1' 'maturin>=1.16,<2'
	$(BIN)/pip install --quiet --group dev
	touch $@

$(BUILT): $(INSTALLED) $(RUST_SOURCES)
	rm -f $(VENV)/.built-*
	$(BIN)/maturin develop --profile $(PROFILE) --locked
	touch $@
