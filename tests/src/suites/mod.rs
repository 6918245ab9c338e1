//! Acceptance suites. Each has a `table` of named rows; a row measures one or more bounded quantities.

pub mod architecture;
pub mod chaos;
pub mod pipeline;
pub mod speed;
pub mod store;
