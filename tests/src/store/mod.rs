//! The store's tiers under faults: nothing that was acknowledged is lost, and no read fails that need not.

pub mod cloud;
pub mod shared;
pub mod table;
