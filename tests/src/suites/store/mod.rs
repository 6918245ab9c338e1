//! Store suite: durability, integrity, size, and the cost of codecs and ratios.
//!
//! Modules that measure the store and not the models use short texts. Measurements that use
//! random numbers report their seed.

pub mod auto;
pub mod batch;
pub mod bit_flips;
pub mod codecs;
pub mod deletes;
pub mod disk;
pub mod edits;
pub mod gateways;
pub mod genres;
pub mod hot_latents;
pub mod kills;
pub mod long;
pub mod many;
pub mod name_model;
pub mod names;
pub mod ops;
pub mod recode;
pub mod redis;
pub mod resume;
pub mod s3;
pub mod s3_faults;
pub mod safetensors;
mod strace;
pub mod syscalls;
pub mod table;
