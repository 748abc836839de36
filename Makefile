# What a person types. Each target is a few lines; the longer ones are scripts in tests/tools.
# ARGS=… is passed on: `make run ARGS=--port=9000`, `make test ARGS=cancel`.

# The Codex CLI that the tests and the demo run, and that `make run` installs where there is none.
export CODEX_VERSION := 0.169.0
# For install and uninstall, where they are given.
export DESTDIR PREFIX SYSCONFDIR BIN
# For publish.
export VERSION DRY_RUN REPOSITORY

.DEFAULT_GOAL := help
.PHONY: help run demo test lint bench build install uninstall deb rpm tarball source tour pictures build-tools test-tools release-check publish

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

run: ## Get what is missing, then serve on http://127.0.0.1:8765
	@tests/tools/run.sh $(ARGS)

demo: ## One streamed answer without a login: the real Codex CLI, a scripted upstream
	@tests/tools/demo.sh $(ARGS)

test: test-tools lint build ## Get what the tests need, lint, run every test
	@# With the name of a test, cargo would leave out the programs that the tests run.
	cargo build --examples
	cargo test $(ARGS)

lint: ## Formatting, clippy, rustdoc, licences and sources of the crates, shell scripts
	@tests/tools/lint.sh

bench: ## Measure what the proxy adds to using Codex directly, either engine
	packaging/build.sh --bins --examples
	@target/release/examples/bench $(ARGS)

build: build-tools ## The release program, target/release/codex-api-proxy
	packaging/build.sh

install: ## Install what was built; DESTDIR= PREFIX=/usr/local
	@packaging/install.sh

uninstall: ## Remove what install put there; edited settings stay
	@packaging/install.sh --uninstall

deb: build ## A Debian package, in target/packages
	@packaging/deb.sh

rpm: build ## An RPM package, in target/packages
	@packaging/rpm.sh

tarball: build ## The program with all its files and an install.sh, in target/packages; TARGET=TRIPLE
	@packaging/tarball.sh

source: ## The sources as committed, in target/packages
	@packaging/source.sh

tour: build ## Record packaging/first-five-minutes.svg
	@tests/tools/tour.sh

pictures: ## Take the pictures of the page, packaging/page-*.png
	cargo build --bins --examples
	PAGE_PICTURES=$(CURDIR)/packaging cargo test --test it -- page::ready page::busy

build-tools: ## Check for the Rust toolchain that building needs
	@tests/tools/need-cargo.sh

test-tools: build-tools ## Get what the tests need, below target/; programs that are missing with apt-get
	@tests/tools/test-tools.sh

release-check: test ## Everything that must hold before a release: all packages built and validated
	@packaging/release-check.sh

publish: ## publish VERSION=x.y.z: sets it everywhere, checks, fills a release folder, publishes; DRY_RUN=1
	@packaging/publish.sh
