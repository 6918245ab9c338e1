//! Garbage collection: mark and sweep over the whole store.

mod mark;
pub(crate) mod pending_deletes;
mod sweep;
