//! Chaos suite: nodes die, hang, corrupt answers and drain, and networks fail, but no call of a client may fail.

pub mod byzantine;
pub mod clients;
pub mod discovery;
pub mod gateways;
pub mod load;
pub mod nodes;
pub mod read_load;
pub mod schedules;
pub mod table;
