//! The Rust client of the gateway.
//!
//! [`Client::connect`] gives a handle that is cheap to clone. Long texts and latents travel as streams with back
//! pressure: nothing is read before the gateway takes it, and nothing is taken from the gateway before the caller
//! asks. Dropping a call cancels it, on the gateway and on its nodes.
//!
//! Every call carries the current tracing span as W3C trace context, so that the caller's trace goes on in the
//! gateway. What is safe to do twice is tried again where a gateway is gone, on the next of those that were named, or where it
//! is full, when it asks for that.
//!
//! ```no_run
//! # async fn example() -> Result<(), c3_client::Error> {
//! use c3_client::{ByteRange, Client, WriteOptions};
//! use futures::TryStreamExt;
//!
//! let client = Client::connect("http://127.0.0.1:7300").await?;
//! let stored = client.put("a text".as_bytes(), &WriteOptions::default()).await?.finish().await?;
//! let text = client.get(&stored.document.id.to_string(), ByteRange::default()).await?;
//! let pieces: Vec<_> = text.try_collect().await?;
//! assert_eq!(pieces.concat(), b"a text");
//! # Ok(())
//! # }
//! ```

mod client;
mod document;
mod download;
mod error;
mod names;
mod put;
mod retry;
mod trace;
mod upkeep;
mod upload;

pub use c3_proto::pb;
pub use c3_types::{AutoBound, AutoRatio, Base, ByteRange, Corrections, DocumentId, DocumentName, Expected, IdPrefix, Label, Labels, LatentCodec, LatentGroup, Namespace, PutName, UploadName, Window, WriteOptions};
pub use client::{Client, TimeOuts};
pub use document::{Document, Verification};
pub use download::{DocumentLatents, Text, Windows};
pub use error::Error;
pub use names::{Labelled, ListQuery, ListedName, Named};
pub use put::{Progress, Put, PutEvent, Stored};
pub use upkeep::{Check, CheckEvent, Finding, Listed};
