//! Search over the documents of a tenant, without their text.
//!
//! [`follow`] builds the index (`search_index.rs`) from the sketches in the store (`sketches.rs`), and brings it up to
//! date with the changes of all gateways. [`find`] answers searches: the index selects windows, and phrases and snippets
//! come from decoded text. [`reindex`] adds sketches to a document that has none, [`reindex_job`] to all of them.

pub(crate) mod find;
pub(crate) mod follow;
pub(crate) mod reindex;
pub(crate) mod reindex_job;
