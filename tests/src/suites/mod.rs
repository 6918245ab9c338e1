//! Acceptance suites.
//!
//! A *suite* is a list of rows about one topic, such as `store`. A *row* is a named measurement on the real programs:
//! `accept store kills` runs the row `kills` of the suite `store`. Each row yields one or more *quantities*. A quantity
//! is a measured value with a name and, usually, a bound that the value must meet. Its type is
//! [`Row`](crate::harness::row::Row), since `accept` prints each quantity as one row of output.

pub mod architecture;
pub mod chaos;
pub mod found;
pub mod pipeline;
pub mod speed;
pub mod store;
