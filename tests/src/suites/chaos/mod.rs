//! Chaos suite: nodes die, hang, corrupt answers and drain, networks fail, and no client notices.

pub mod byzantine;
pub mod clients;
pub mod discovery;
pub mod gateways;
pub mod load;
pub mod nodes;
pub mod read_load;
pub mod schedules;
pub mod table;
