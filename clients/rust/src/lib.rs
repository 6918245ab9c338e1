//! Rust client of the gateway.
//!
//! [`Client::connect`] returns a handle that is cheap to clone. Texts and latents are streamed with back pressure: the
//! client reads a text only as fast as the gateway accepts it, and receives only as fast as the caller polls. Dropping
//! the future or stream of a call cancels the call on the gateway and on its nodes.
//!
//! [`Client::connect_with`] takes an API key for gateways with access control.
//!
//! Every call carries the current tracing span as W3C trace context. These calls retry: `put_text`, `put_with_retries`,
//! and those that read documents, latents, names, labels, lists, totals, uploads, reindex jobs or nodes. A retry goes
//! to the next gateway if one is unreachable, or starts after the delay that an overloaded gateway requests.
//!
//! [`Client::connect_with`] takes the CAs and the client certificate for gateways that speak TLS. Their files are read
//! again when they change.
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
mod credentials;
mod error;
mod metrics;
mod names;
mod retry;
mod streams;
mod trace;
mod upload;

pub use c3_proto::pb;
pub use c3_tls::{ClientAuth, Credentials, TlsFiles, TlsVersion};
pub use c3_types::{
    AffectedWindows, AutoBound, AutoRatio, Base, ByteRange, Corrections, CreatedRange, DamagedDocument, DamagedName,
    DecompressOptions, Document, DocumentId, DocumentLabels, DocumentName, Expected, Finding, FsckEvent, FsckMode,
    FsckSummary, IdPrefix, Label, Labels, LatentCodec, LatentGroup, LineRange, ListQuery, NameFilter, NamedDocument,
    Namespace, PATH_LABEL, Progress, Prompt, PutEvent, PutName, ReindexJob, ReindexState, SearchHit, SearchMode,
    SearchPage, SearchQuery, Snippet, Stage, Stored, SweepSummary, Totals, Upload, UploadName, Verification, Window,
    WriteOptions,
};
pub use client::{Client, UnreadyStages};
pub use credentials::ApiKey;
pub use error::{Error, RetryRequest};
pub use metrics::MetricsPage;
pub use names::{Listed, ListedName};
pub use retry::{ClientOptions, Timeouts};
pub use streams::{DocumentLatents, Put, Text};
