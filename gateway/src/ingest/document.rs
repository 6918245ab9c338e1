//! Stores a text as a document.
//!
//! Several shards are written concurrently. The text of the next shard is read from the caller only when the write of
//! that shard can start, so a slow store or a busy node slows the caller down instead of filling memory. The manifest
//! is written last: it makes the document visible, and the document is durable from then on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_stream::try_stream;
use bytes::Bytes;
use c3_store::manifest::{Manifest, ShardEntry};
use c3_store::{Error as StoreError, StoredObject};
use c3_types::{Base, Progress, PutEvent, Stored, WriteOptions};
use futures::future::Either;
use futures::{Stream, StreamExt, TryStreamExt, pin_mut};

use super::append::{Append, reread_text};
use super::auto::{RatioPolicy, write_parts};
use super::hash::TextHash;
use super::map_parts;
use super::plan::WritePlan;
use super::progress::WriteProgress;
use super::shard::{WrittenPart, write_shard};
use super::text::{self, TextLimits, TextPart};
use super::upload::{self, Upload};
use crate::error::Error;
use crate::metrics::Direction;
use crate::state::{Placing, SharedGateway};

/// Minimum time between two progress events. Few events then queue up while a caller sends its text without reading.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Document to write.
pub(super) struct DocumentWrite {
    plan: Arc<WritePlan>,
    options: WriteOptions,
    /// Shards of a base document that precede the text to write.
    kept: Vec<ShardEntry>,
    /// Document to replace; `None` for a put.
    replaces: Option<Manifest>,
    /// Upload session, from which an interrupted put can be resumed; `None` for a recode.
    upload: Option<Upload>,
}

impl DocumentWrite {
    /// Returns the write of a recode, which replaces the document `old`.
    pub(super) fn replacing(old: Manifest, plan: WritePlan, options: WriteOptions) -> Self {
        Self { plan: Arc::new(plan), options, kept: Vec::new(), replaces: Some(old), upload: None }
    }
}

/// Stores a text that arrives in pieces. The last event is [`PutEvent::Stored`].
pub(crate) fn put_document<S>(
    gateway: SharedGateway,
    options: WriteOptions,
    pieces: S,
) -> impl Stream<Item = Result<PutEvent, Error>> + Send
where
    S: Stream<Item = Result<Bytes, Error>> + Send,
{
    try_stream! {
        let mut options = options;
        gateway.check_stored()?;
        // Refused before anything is awaited, so that the caller does not send a text that is too large.
        TextLimits::new(gateway.config.document_size_max.0, options.bytes)?;
        let session = match &options.upload {
            Some(name) => gateway.store.upload(name).await?,
            None => None,
        };
        let saved = session.as_ref().map(upload::saved_options).transpose()?;
        let base_option = options.base.as_ref().or(saved.as_ref().and_then(|saved| saved.base.as_ref()));
        let base = match base_option {
            Some(base) => Some(gateway.find(base.id().as_str()).await?),
            None => None,
        };
        if let (Some(option), Some(found)) = (&options.base, &base) {
            options.base = Some(upload::with_full_id(option, found.value.id));
        }
        if let Some(saved) = &saved {
            options = upload::resume(options, saved)?;
        }
        let plan = match &base {
            Some(base) => WritePlan::with_defaults_of(&base.value, &options, &gateway).await?,
            None => WritePlan::new(&options, &gateway).await?,
        };
        let Append { kept, prefix, reread } = match (&options.base, base) {
            (Some(Base::Appended(_)), Some(base)) => {
                options.bytes = options.bytes.map(|bytes| base.value.bytes() + bytes);
                Append::to(&base.value, &plan, &gateway).await?
            }
            _ => Append::default(),
        };
        let limits = TextLimits::new(gateway.config.document_size_max.0, options.bytes)?;
        let upload = Some(Upload::begin(&gateway, &plan, &options, session).await?);
        let parts = text::shards(prefix, reread_text(&gateway, reread).chain(pieces), limits);
        let write = DocumentWrite { plan: Arc::new(plan), options, kept, replaces: None, upload };
        let events = write_text(gateway, write, parts);
        pin_mut!(events);
        while let Some(event) = events.next().await {
            yield event?;
        }
    }
}

/// Appends a text to the stored document `reference`, which is an id, a unique prefix of an id, or a name. The options
/// must not have a base. The last event is [`PutEvent::Stored`], with the new document; the stored one stays.
pub(crate) fn append<S>(
    gateway: SharedGateway,
    reference: String,
    options: WriteOptions,
    pieces: S,
) -> impl Stream<Item = Result<PutEvent, Error>> + Send
where
    S: Stream<Item = Result<Bytes, Error>> + Send,
{
    try_stream! {
        let base = Some(Base::Appended(gateway.find(&reference).await?.value.id.into()));
        let options = WriteOptions { base, ..options };
        options.check()?;
        // Boxed, so that this stream is not larger than that of a put.
        let mut events = Box::pin(put_document(gateway, options, pieces));
        while let Some(event) = events.try_next().await? {
            yield event;
        }
    }
}

/// Writes shards, commits the document, sets its labels and name. The last event is [`PutEvent::Stored`].
pub(super) fn write_text<S>(
    gateway: SharedGateway,
    write: DocumentWrite,
    parts: S,
) -> impl Stream<Item = Result<PutEvent, Error>> + Send
where
    S: Stream<Item = Result<TextPart, Error>> + Send,
{
    try_stream! {
        let _in_progress = gateway.store.begin_put();
        let DocumentWrite { plan, options, kept, replaces, mut upload } = write;
        let (policy, written) = match &options.auto_ratio {
            Some(auto) => {
                let policy = RatioPolicy::new(auto, &plan, &options, &gateway).await?;
                let written = write_parts(Arc::clone(&gateway), policy.clone(), parts);
                (Some(policy), Either::Left(written))
            }
            None => {
                let written = map_parts(Arc::clone(&gateway), Arc::clone(&plan), parts, write_part);
                (None, Either::Right(written))
            }
        };
        pin_mut!(written);

        let (mut progress, mut reported) = (WriteProgress::new(kept), Instant::now());
        while let Some(part) = written.next().await {
            match part? {
                WrittenPart::Shard(shard) => {
                    progress.add(*shard);
                    if let Some(upload) = &mut upload {
                        upload.save(&gateway, &plan, &progress).await?;
                    }
                    if reported.elapsed() >= PROGRESS_INTERVAL {
                        reported = Instant::now();
                        let upload = upload.as_ref().and_then(Upload::name).cloned();
                        let compressed = plan.compressed.load(Ordering::Relaxed);
                        yield PutEvent::Progress(Progress { upload, ..progress.report(options.bytes, compressed) });
                    }
                }
                WrittenPart::End(hash) => {
                    let (mut put, manifest) = commit(&gateway, &plan, &mut progress, &hash, replaces.as_ref()).await?;
                    put.document.labels = gateway.set_requested_names(&manifest, &options).await?;
                    put.bound_met = policy.as_ref().map(|policy| policy.is_met(&put.document));
                    if let Some(upload) = &upload {
                        upload.end(&gateway).await;
                    }
                    yield PutEvent::Stored(Box::new(put));
                }
            }
        }
    }
}

async fn write_part(gateway: SharedGateway, plan: Arc<WritePlan>, part: TextPart) -> Result<WrittenPart, Error> {
    let (text, placing) = match part {
        TextPart::Shard(text) => (text, Placing::Shared),
        TextPart::OnlyShard(text) => (text, Placing::Inline),
        TextPart::End(hash) => return Ok(WrittenPart::End(hash)),
    };
    Ok(WrittenPart::Shard(Box::new(write_shard(gateway, plan, text, placing).await?)))
}

/// Stores the manifest, which makes the document visible. Returns the result of the write and the stored manifest.
async fn commit(
    gateway: &SharedGateway,
    plan: &WritePlan,
    progress: &mut WriteProgress,
    hash: &TextHash,
    replaces: Option<&Manifest>,
) -> Result<(Stored, Manifest), Error> {
    let id = hash.id();
    let mut manifest = plan.manifest(id, std::mem::take(&mut progress.shards));
    let now = manifest.created_unix_ms;
    // An append to a document of one shard writes the whole text again, so it needs no subtrees to resume the hash.
    if manifest.shards.len() > 1 {
        manifest.subtrees = hash.subtrees().to_vec();
    }
    let start = Instant::now();
    let stored = match replaces {
        Some(old) => {
            manifest.created_unix_ms = old.created_unix_ms;
            manifest.expires_unix_ms = manifest.expires_unix_ms.or(old.expires_unix_ms);
            replace(gateway, old, manifest).await?
        }
        None => gateway.store.put_manifest(manifest).await?,
    };
    progress.times.store += start.elapsed();
    let WriteProgress { bytes, tokens, reused, times, .. } = *progress;
    gateway.count_text(Direction::In, bytes, tokens);
    tracing::info!(%id, bytes, tokens, reused, "stored a document");
    let document = stored.value.document(stored.bytes);
    gateway.count_stored(document.stored_bytes);
    gateway.search.written(id);
    // A document that exists already keeps the time of its first put.
    let already_stored = document.created_unix_ms != now;
    Ok((Stored { document, shards_reused: reused, times, bound_met: None, already_stored }, stored.value))
}

/// Replaces `old` by `new`. Fails if `old` was changed or deleted meanwhile, or if the ids differ.
pub(crate) async fn replace(
    gateway: &SharedGateway,
    old: &Manifest,
    new: Manifest,
) -> Result<StoredObject<Manifest>, Error> {
    if new.id != old.id {
        let problem = "each window matches its hash, but the whole text does not match the id";
        return Err(Error::DataLoss(format!("document {}: {problem}", old.id)));
    }
    match gateway.store.switch_manifest(old, new).await {
        Ok(Some(stored)) => Ok(stored),
        Ok(None) => Err(Error::Changed(old.id)),
        Err(StoreError::Missing { .. }) => Err(Error::NotFound(old.id.to_string())),
        Err(error) => Err(error.into()),
    }
}
