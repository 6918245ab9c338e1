//! Garbage collection: mark and sweep over the whole store.

mod mark;
pub mod pending_deletes;
mod sweep;
