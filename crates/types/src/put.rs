//! Progress and result of writing a document.

use std::ops::AddAssign;
use std::time::Duration;

use serde::Serialize;

use crate::{Document, UploadName, WriteOptions};

/// Event of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum PutEvent {
    /// A part of the document is done, see [`Progress`].
    Progress(Progress),
    /// The whole document is durable and visible. This is the last event.
    Stored(Box<Stored>),
}

/// Progress of a write. A part is done once it is compressed, verified and durable, but it is not visible yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Number of bytes that are done, from the beginning of the document.
    pub bytes_done: u64,
    /// Number of tokens that are done.
    pub tokens_done: u64,
    /// Number of bytes in `bytes_done` that were already in the store.
    pub bytes_reused: u64,
    /// Number of bytes whose latents are known: those of `bytes_done`, and some that are not verified yet.
    pub bytes_compressed: u64,
    /// Estimated time left; `None` if the size of the text is unknown, or if no shard (part of the text) was computed
    /// yet.
    pub time_left: Option<Duration>,
    /// Name for resuming the write; `None` as long as the write cannot be resumed. See [`WriteOptions::upload`].
    pub upload: Option<UploadName>,
}

/// Result of a write.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The document.
    pub document: Document,
    /// Number of shards that were already in the store and needed no model call.
    pub shards_reused: u64,
    /// Time that the gateway's calls to nodes and store took.
    pub times: StageTimes,
    /// True if the document meets the bound of [`WriteOptions::auto_ratio`]; `None` without such a bound.
    pub bound_met: Option<bool>,
    /// True if a document with this text existed before the write.
    pub already_stored: bool,
}

/// Time by stage. The times of concurrent calls are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Compressor calls.
    pub compress: Duration,
    /// Verification calls.
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

/// An interrupted write. A caller resumes it by sending the same text again with the same upload name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Upload {
    /// Name of the upload.
    pub name: UploadName,
    /// Number of bytes that are stored, from the beginning of the document.
    pub bytes_done: u64,
    /// Number of tokens that are stored.
    pub tokens_done: u64,
    /// Options of the write. A resuming call must not contradict them.
    pub options: WriteOptions,
    /// Expiry, as Unix time in milliseconds: from then on, the upload cannot be resumed.
    pub expires_unix_ms: u64,
}
