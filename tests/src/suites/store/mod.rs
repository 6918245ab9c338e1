//! The store: that it loses nothing, tells no wrong text and stays small; what codecs and ratios cost.
//!
//! Where the store and not the models is measured, texts are short. Seeds are printed with the rows.

pub mod auto;
pub mod batch;
pub mod cloud;
pub mod codecs;
pub mod deletes;
pub mod disk;
pub mod edited;
pub mod flips;
pub mod gateways;
pub mod hot;
pub mod interchange;
pub mod kills;
pub mod kinds;
pub mod long;
pub mod many;
pub mod names;
pub mod notes;
pub mod ops;
pub mod recode;
pub mod resumed;
pub mod s3;
pub mod shared;
mod strace;
pub mod syscalls;
pub mod table;
