//! Pipeline suite: a book goes through a gateway and two nodes, and comes back byte for byte.
//!
//! Each module measures one kind of quantity on the real programs. The tests in `e2e/` measure with short texts, the
//! suite with books.

pub mod bit_flips;
pub mod clean_clone;
pub mod failover;
pub mod fidelity;
pub mod golden;
pub mod gpu;
pub mod reading;
pub mod readme;
pub mod requests;
pub mod roundtrip;
pub mod startup;
pub mod table;
pub mod texts;
pub mod trace;
