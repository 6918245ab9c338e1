//! Search over the documents of a tenant, without their text.
//!
//! [`sketches`] computes the sketches of a shard when it is written. [`index`] keeps the index, which [`follow`] builds
//! from the sketches in the store and brings up to date with the changes of all gateways. [`find`] answers searches: the
//! index selects windows, and phrases and snippets come from decoded text. [`reindex`] adds sketches to documents that
//! have none.

pub(crate) mod find;
pub(crate) mod follow;
pub(crate) mod index;
pub(crate) mod reindex;
pub(crate) mod sketches;
