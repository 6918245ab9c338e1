//! End-to-end tests and proofs that start the real programs.
//!
//! [`process`] starts a program and [`cluster`] three of them; [`calls`] talks to a gateway as the protocol has it, the
//! public client as people do. [`spine`], [`speed`], [`store`] and [`faults`] measure: what they give are rows, quantities
//! beside their bounds. A test asserts them on short texts, the binary `prove` prints them for whole books.

pub mod calls;
pub mod cluster;
pub mod compose;
pub mod faults;
pub mod fixtures;
pub mod golden;
pub mod hang;
pub mod otlp;
pub mod process;
pub mod proxy;
pub mod row;
pub mod speed;
pub mod spine;
pub mod store;
pub mod tool;
pub mod wait;
