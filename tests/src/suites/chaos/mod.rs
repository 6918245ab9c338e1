//! Chaos suite: nodes die, hang, corrupt answers and drain, networks fail, and no client notices.

mod byzantine;
pub mod callers;
pub mod discovery;
pub mod gateways;
mod load;
pub mod nodes;
mod read_load;
pub mod schedules;
pub mod table;
