//! Acceptance suites.
//!
//! A *suite* is a list of named measurements of the real programs about one topic, such as `store`. In the arguments of
//! `accept`, a measurement is called a *row*: `accept store kills` runs the measurement `kills` of the suite `store`.
//! Each measurement yields one or more [quantities](crate::harness::quantity::Quantity). A quantity is a measured value
//! with a name and, usually, a bound that the value must meet.

pub mod agents;
pub mod architecture;
pub mod chaos;
pub mod console;
pub mod found;
pub mod gpu;
pub mod http;
pub mod operations;
pub mod pipeline;
pub mod search;
pub mod security;
pub mod speed;
pub mod store;
