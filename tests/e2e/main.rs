//! End-to-end tests of the real programs, on free loopback ports and with short texts.

use c3_tests::harness::fixtures;

mod bad_input;
mod batch;
mod cache;
mod chaos;
mod cli;
mod codecs;
mod console;
mod deploy;
mod failover;
mod golden;
mod hostile;
mod http;
mod limits;
mod mcp;
mod metrics;
mod names;
mod nodes;
mod range;
mod roundtrip;
mod search;
mod security;
mod speed;
mod store;
mod store_format;
mod tls;
mod trace;

/// Returns about 3 KB of prose.
fn page() -> String {
    fixtures::text("page.txt").expect("the fixture is in the repository")
}

/// Returns about 10 KB of prose.
fn essay() -> String {
    fixtures::text("essay.txt").expect("the fixture is in the repository")
}

/// Returns about 24 KB of prose.
fn chapter() -> String {
    fixtures::text("chapter.txt").expect("the fixture is in the repository")
}
