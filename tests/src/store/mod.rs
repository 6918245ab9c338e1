//! That the store loses nothing, tells no wrong text, and stays small.
//!
//! Texts are short, so that what is measured is the store and not the models. Seeds are printed with the rows.

pub mod deletes;
pub mod flips;
pub mod gateways;
pub mod kills;
pub mod many;
pub mod ops;
pub mod syscalls;
pub mod table;
