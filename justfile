# What people run on this repository. `just` lists it.

# A tool that is missing is installed by .ci/run, or by `pip install` with the names that stand there.
set shell := ["bash", "-euo", "pipefail", "-c"]

_default:
    @just --list --unsorted

# Build everything, optimised
build:
    cargo build --release --workspace --locked

# All targets are built at once: programs with the features that tests have, or most would be compiled twice.
# Every test: unit, doc and end-to-end with the real programs
test:
    cargo build --workspace --all-targets --locked
    cargo test --workspace --doc --locked --quiet
    cargo nextest run --workspace --locked

# Measure a topic's table anew: just prove spine [ROW] [--full]
prove *arguments:
    cargo build --release --workspace --bins --locked
    target/release/prove {{ arguments }}

# Where the time of a roundtrip goes, as a flame graph; takes perf, and `cargo install inferno`
flame out="target/flame.svg":
    cargo build --release --package c3-cli --locked
    C3_LOG=warn perf record -e cpu-clock -F 799 --call-graph dwarf,8192 -o target/flame.perf \
        target/release/c3 roundtrip tests/fixtures/texts/essay.txt
    perf script -i target/flame.perf --no-inline | inferno-collapse-perf | sed -E -f docs/flames/frames.sed \
        | inferno-flamegraph --deterministic --minwidth 0.2 --title "c3 roundtrip" > {{ out }}

# The kernels' tests under AddressSanitizer, which takes a nightly toolchain
asan:
    RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/asan cargo +nightly test --target "$(rustc --print host-tuple)" --package c3-cascade --lib network

# All that CI checks
ci: fmt lint doc deny unused test

# Formatting
fmt:
    cargo fmt --all --check

# Clippy, every warning an error
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# The documentation of the crates, every warning an error. Private items are in it, so links to them lead somewhere
doc:
    RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items --locked

# Licences, bans and sources of the dependencies
deny:
    cargo deny --all-features check licenses bans sources

# Dependencies that nothing uses
unused:
    cargo shear
