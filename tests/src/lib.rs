//! End-to-end tests and acceptance suites that start the real programs.
//!
//! [`harness`] starts programs, faulty networks and clients. The [`suites`] measure quantities, such as a latency or a
//! number of lost documents, and compare each with its bound. The binary `accept` runs a suite on whole books and
//! prints the results. The tests in `e2e/` run parts of the suites on short texts and assert the results.

pub mod harness;
pub mod suites;
