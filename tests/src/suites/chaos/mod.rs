//! Faults: nodes die, hang, lie and drain, and no caller notices.

pub mod callers;
pub mod demand;
pub mod finding;
pub mod gateways;
pub mod liar;
pub mod load;
pub mod nodes;
pub mod schedules;
pub mod table;
