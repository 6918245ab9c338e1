//! End-to-end tests: the real programs on free ports of the loopback, with short texts.

use c3_tests::fixtures;

mod bad_input;
mod batch;
mod cache;
mod cli;
mod codecs;
mod deploy;
mod failover;
mod faults;
mod golden;
mod limits;
mod names;
mod range;
mod roundtrip;
mod speed;
mod store;
mod trace;

/// A page of a book.
fn page() -> String {
    fixtures::text("page.txt").expect("the fixture is in the repository")
}

/// Some pages of a book.
fn essay() -> String {
    fixtures::text("essay.txt").expect("the fixture is in the repository")
}

/// A chapter of a book.
fn chapter() -> String {
    fixtures::text("chapter.txt").expect("the fixture is in the repository")
}
