//! Found suite: faults that users, operators and developers found.
//!
//! Each measurement is named after a fault. It runs the real programs in the situation in which the fault occurred. The
//! fault must not occur again.

pub mod data;
pub mod files;
pub mod flags;
pub mod folder;
pub mod listing;
pub mod metrics;
pub mod server;
pub mod table;
pub mod terminal;
pub mod usage;
pub mod waiting;
