//! Faults that users, operators and developers found. Each row reproduces one fault on the real programs.

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
