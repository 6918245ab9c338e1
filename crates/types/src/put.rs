//! Progress and result of writing a document.

use std::ops::AddAssign;
use std::time::Duration;

use serde::Serialize;

use crate::{Document, UploadName, WriteOptions};

/// Event of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum PutEvent {
    /// Part of the document is done.
    Progress(Progress),
    /// The whole document is durable. The last event.
    Stored(Box<Stored>),
}

/// Progress of a write. What is done is compressed, verified and durable, but not yet visible.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Bytes of the document that are done, from its beginning.
    pub bytes_done: u64,
    /// Tokens of the document that are done.
    pub tokens_done: u64,
    /// Bytes of `bytes_done` that were in the store already.
    pub bytes_reused: u64,
    /// Estimated time left; `None` if the size is unknown or nothing was computed yet.
    pub time_left: Option<Duration>,
    /// Name under which the write can be resumed, once it can be: see [`WriteOptions::upload`].
    pub upload: Option<UploadName>,
}

/// Result of a write.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The document.
    pub document: Document,
    /// Shards that were in the store already and needed no model call.
    pub shards_reused: u64,
    /// Time that the gateway's calls took.
    pub times: StageTimes,
    /// With [`WriteOptions::auto_ratio`]: true if the document meets the bound.
    pub bound_met: Option<bool>,
}

/// Time by stage, summed over parallel calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Compressor calls.
    pub compress: Duration,
    /// Verifications by decoders.
    pub verify: Duration,
    /// Writes to the store.
    pub store: Duration,
}

impl AddAssign for StageTimes {
    fn add_assign(&mut self, other: Self) {
        self.compress += other.compress;
        self.verify += other.verify;
        self.store += other.store;
    }
}

/// An interrupted write that can be resumed by sending its text again under its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Upload {
    /// The name.
    pub name: UploadName,
    /// Bytes that are stored, from the beginning of the document.
    pub bytes_done: u64,
    /// Tokens that are stored.
    pub tokens_done: u64,
    /// Options that the upload is bound to.
    pub options: WriteOptions,
    /// Time from which on it cannot be resumed, in milliseconds since 1970.
    pub expires_unix_ms: u64,
}
