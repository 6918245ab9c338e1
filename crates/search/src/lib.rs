//! Search over documents that are stored as latents.
//!
//! The store holds no text, so an index cannot be computed from what is stored: it needs the text, which the gateway
//! has only while it writes a document. So the gateway computes a [`Sketch`] of each window then, stores it with the
//! shard, and builds an [`Index`] from sketches whenever it starts. The index is derived data and never the truth.
//!
//! ```
//! use c3_search::{Index, IndexedWindow, Query, Search, Sketch, TermKey, WindowText};
//! use c3_types::DocumentId;
//!
//! let key = TermKey::derive(&[7; 32]);
//! let text = "The lighthouse keeper counted eleven ships.";
//! let sketches = Sketch::of_windows(text, &[WindowText { bytes: 0..text.len(), limit: 350 }], &key);
//!
//! let index = Index::new(key, 64 << 20);
//! let windows = sketches.into_iter().map(|sketch| IndexedWindow { bytes: 0..text.len() as u64, sketch });
//! index.insert(DocumentId::of(text.as_bytes()), windows.collect())?;
//!
//! let query = Query::parse("who counted ships?")?;
//! let hits = index.search(&Search::new(&query));
//! assert_eq!(hits[0].document, DocumentId::of(text.as_bytes()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Index`] describes what a query costs and which updates it sees; [`Sketch`] describes what a sketch leaks.

pub mod analyzer;
pub mod evaluation;
#[cfg(test)]
mod fuzz;
mod index;
mod key;
mod phrase;
mod query;
mod sketch;
mod snippet;

pub use self::index::{Hit, Index, IndexError, IndexedWindow, Position, Search};
pub use self::key::TermKey;
pub use self::phrase::Phrase;
pub use self::query::{Query, QueryError};
pub use self::sketch::{Sketch, SketchError, WindowText};
pub use self::snippet::snippet;
