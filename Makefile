# What a person types. Each target is a few lines; the longer ones are scripts in tests/tools.
# ARGS=… is passed on: `make run ARGS=--port=9000`, `make test ARGS=cancel`.

# The Codex CLI that the tests and the demo run, and that `make run` installs where there is none.
export CODEX_VERSION := 0.169.0

.DEFAULT_GOAL := help
.PHONY: help run demo test lint bench build build-tools test-tools release-check publish

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

run: ## Get what is missing, then serve on http://127.0.0.1:8765
	@tests/tools/run.sh $(ARGS)

demo: ## One streamed answer without a login: the real Codex CLI, a scripted upstream
	@tests/tools/demo.sh $(ARGS)

test: test-tools lint ## Get what the tests need, lint, run every test
	cargo test $(ARGS)

lint: ## Formatting, clippy, rustdoc, licences and sources of the crates, shell scripts
	@tests/tools/lint.sh

bench: ## Measure what the proxy adds to using Codex directly, either engine
	cargo build --release --bins --examples
	@target/release/examples/bench $(ARGS)

build: ## The release program, target/release/codex-api-proxy
	cargo build --release --locked

build-tools: ## Check for the Rust toolchain that building needs
	@tests/tools/need-cargo.sh

test-tools: build-tools ## Get what the tests need, all of it below target/
	@tests/tools/test-tools.sh

release-check: test ## Everything that must hold before a release, and the crate as it would be published
	cargo package --locked --allow-dirty --no-verify
	@echo "release-check: the crate packages. Distribution packages do not exist yet, so none were checked."

publish: ## publish VERSION=x.y.z: says what a release would do
	@tests/tools/publish.sh "$(VERSION)"
