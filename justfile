# Commands of this repository; `just` lists them. Builds and tests need only cargo and a C and C++ compiler. `just ci`
# also needs cargo-deny and cargo-shear, which .ci/run installs.
set shell := ["bash", "-euo", "pipefail", "-c"]

_default:
    @just --list --unsorted

# Build all programs with optimisations
build:
    cargo build --release --workspace --locked

# Run all tests: unit tests, doc tests, and end-to-end tests with the real programs
test:
    cargo test --workspace --locked

# ROW is the name of one measurement of the suite. Without ROW, all measurements run.
# Run an acceptance suite: just accept pipeline|speed-cpu|speed-gpu|store|chaos|found|http|security|operations|console|search|architecture [ROW] [--full]
accept *arguments:
    cargo build --release --workspace --bins --locked
    target/release/accept {{ arguments }}

# Write a flame graph of `c3 roundtrip`. Needs perf, and inferno from `cargo install inferno`
flame out="target/flame.svg":
    cargo build --release --package c3-cli --locked
    C3_LOG=warn perf record -e cpu-clock -F 799 --call-graph dwarf,8192 -o target/flame.perf \
        target/release/c3 roundtrip tests/fixtures/texts/essay.txt
    perf script -i target/flame.perf --no-inline | inferno-collapse-perf | sed -E -f docs/benchmarks/frames.sed \
        | inferno-flamegraph --deterministic --minwidth 0.2 --title "c3 roundtrip" > {{ out }}

# Test the CPU kernels with AddressSanitizer. Needs a nightly toolchain
asan:
    RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/asan cargo +nightly test --target "$(rustc --print host-tuple)" --package c3-cascade --lib network

# Run everything that CI checks
ci: test fmt lint lint-cuda doc deny unused helm observability

# Check formatting
fmt:
    cargo fmt --all --check

# Run clippy with warnings as errors
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Compile the CUDA kernels, and run clippy on the code that calls them. Needs nvcc, but no GPU
lint-cuda:
    cargo clippy --package c3-cascade --all-targets --features cuda --locked -- -D warnings

# Build the documentation with warnings as errors. Includes private items, so that links to them resolve
doc:
    RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items --locked

# Check licences, bans and sources of dependencies
deny:
    cargo deny --all-features check licenses bans sources

# Check dependencies against the RustSec advisories. Needs cargo-audit, and the network or a clone of the database
advisories *database:
    .ci/advisories {{ database }}

# Write the bill of materials of each program as CycloneDX. Needs cargo-cyclonedx
sbom:
    .ci/sbom

# Check the Helm chart and its examples. Installs helm and a validator from PyPI into target/ci-tools, if they are missing
helm:
    .ci/helm

# Take the pictures of README.md and the guides from a real run. Needs Node.js, Chromium, curl and `script` of util-linux
screenshots out="docs/images":
    #!/usr/bin/env bash
    set -euo pipefail
    cargo build --release --package c3-cli --locked
    npm --prefix clients/console ci --silent --no-audit
    data=$(mktemp -d)
    port=$(node -e 'const server = require("net").createServer().listen(0, () => { console.log(server.address().port); server.close(); })')
    C3_LOG=warn target/release/c3 serve --listen "127.0.0.1:$port" --data "$data" &
    trap 'kill %1; wait %1 || true; rm -r "$data"' EXIT
    curl -sS -o /dev/null --fail --retry 60 --retry-all-errors --retry-delay 1 "http://127.0.0.1:$port/readyz"
    node clients/console/test/screenshots.mjs --url "http://127.0.0.1:$port" --c3 target/release/c3 --out {{ out }}

# Build the images of all roles with Podman, and run the compose file with them. Needs root and packages that it names
containers:
    .ci/containers

# Build a program twice in different folders and compare the hashes
reproduce program="gateway":
    .ci/reproduce {{ program }}

# Without TARGET, all targets run. DURATION is the time for each. Needs a C++ compiler.
# Run fuzz targets under libFuzzer: just fuzz [TARGET] [--time DURATION]
fuzz *arguments:
    .ci/fuzz {{ arguments }}

# Check and test alerts, dashboards and runbooks. Installs promtool from Debian if it is missing
observability:
    .ci/observability

# Find unused dependencies
unused:
    cargo shear

# Run all tests as `just test` does, but test binaries in parallel. Needs cargo-nextest
nextest:
    cargo nextest run --workspace --locked
    cargo test --workspace --doc --locked --quiet
