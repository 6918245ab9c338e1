//! Acceptance suites. Each has named rows: measurements that the binary `accept` runs, of one or more quantities each.

pub mod architecture;
pub mod chaos;
pub mod found;
pub mod pipeline;
pub mod speed;
pub mod store;
