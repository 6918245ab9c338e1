//! End-to-end tests and acceptance suites that start the real programs.
//!
//! [`harness`] starts programs, faulty networks and clients. Each of the [`suites`] measures quantities and returns
//! them as rows, each with its bound. The tests in `e2e/` assert rows on short texts; the binary `accept` prints rows
//! for whole books.

pub mod harness;
pub mod suites;
