//! What the spine must show: a book goes through two nodes and a gateway, and comes back byte for byte.
//!
//! Each module measures one kind of quantity on real programs and gives it back as rows. The tests measure with short
//! texts, the proofs with books.

pub mod bare;
pub mod by_hand;
pub mod damage;
pub mod faults;
pub mod fidelity;
pub mod golden;
pub mod gpu;
pub mod reading;
pub mod requests;
pub mod roundtrip;
pub mod startup;
pub mod table;
pub mod texts;
pub mod trace;
