//! PutDocument: a text becomes a document.
//!
//! Shards are written several side by side and counted in order. The next one is read from the caller only when there
//! is room for it, so a slow store or a busy node slows the caller and fills no memory. The manifest is written last:
//! before it nothing is visible, after it all is durable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_stream::try_stream;
use bytes::Bytes;
use c3_types::{Base, Progress, PutEvent, Stored, WriteOptions};
use futures::future::Either;
use futures::{Stream, StreamExt, pin_mut};

use super::auto::{RatioPolicy, write_parts};
use super::edit::{Continued, text_again};
use super::plan::Plan;
use super::progress::WriteProgress;
use super::shard::{WrittenPart, write_shard};
use super::upload::{self, Upload};
use super::{each_part, limits};
use crate::error::Error;
use crate::ingest::hash::TextHash;
use crate::ingest::text::{self, Part};
use crate::metrics::Direction;
use crate::state::{Placing, SharedGateway};
use c3_store::cache::ResolvedManifest;
use c3_store::Error as StoreError;
use c3_store::manifest::{Manifest, ShardEntry};

/// Least time between two reports: a caller that sends all before it reads finds only a few waiting.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How and to what end a text is written.
pub(super) struct Writing {
    plan: Arc<Plan>,
    options: WriteOptions,
    /// The shards before the text, which stay as they are.
    kept: Vec<ShardEntry>,
    /// The document in whose place it comes.
    replaces: Option<Manifest>,
    /// What makes it possible to take it up.
    upload: Option<Upload>,
}

impl Writing {
    /// A text that nothing is there of.
    pub(super) fn new(plan: Plan, options: WriteOptions) -> Self {
        Self { plan: Arc::new(plan), options, kept: Vec::new(), replaces: None, upload: None }
    }

    /// The text in the place of a document.
    pub(super) fn in_place_of(self, old: Manifest) -> Self {
        Self { replaces: Some(old), ..self }
    }
}

/// Stores a text that arrives in pieces. Ends with [`PutEvent::Stored`] or a error.
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
        let mut base = find_base(&gateway, &options).await?;
        if let (Some(given), Some(found)) = (&options.base, &base) {
            options.base = Some(upload::whole(given, found.value.id));
        }
        let record = match &options.upload {
            Some(name) => gateway.store.upload(name).await?,
            None => None,
        };
        if let Some(record) = &record {
            options = upload::taken_up(options, record)?;
            if base.is_none() {
                base = find_base(&gateway, &options).await?;
            }
        }
        let plan = match &base {
            Some(base) => Plan::like(&options, &base.value, &gateway).await?,
            None => Plan::new(&options, &gateway).await?,
        };
        let continued = match (&options.base, base) {
            (Some(Base::Appended(_)), Some(base)) => {
                options.bytes = options.bytes.map(|bytes| base.value.bytes() + bytes);
                Continued::after(&gateway, &plan, &base.value).await?
            }
            _ => Continued::from_nothing(),
        };
        let limits = limits(&gateway, &options)?;
        let upload = Some(Upload::begin(&gateway, &plan, &options, record).await?);
        let Continued { kept, begun, again } = continued;
        let parts = text::shards(begun, text_again(&gateway, again).chain(pieces), limits);
        let events = write_text(gateway, Writing { kept, upload, ..Writing::new(plan, options) }, parts);
        pin_mut!(events);
        while let Some(event) = events.next().await {
            yield event?;
        }
    }
}

async fn find_base(
    gateway: &SharedGateway,
    options: &WriteOptions,
) -> Result<Option<Arc<ResolvedManifest>>, Error> {
    match &options.base {
        Some(base) => gateway.find(base.id().as_str()).await.map(Some),
        None => Ok(None),
    }
}

/// Stores a text.
pub(super) fn write_text<S>(
    gateway: SharedGateway,
    writing: Writing,
    parts: S,
) -> impl Stream<Item = Result<PutEvent, Error>> + Send
where
    S: Stream<Item = Result<Part, Error>> + Send,
{
    try_stream! {
        let _under_way = gateway.store.begin_put();
        let Writing { plan, options, kept, replaces, mut upload } = writing;
        let (policy, written) = match &options.auto_ratio {
            Some(auto) => {
                let policy = RatioPolicy::new(auto, &plan, &options, &gateway).await?;
                let written = write_parts(Arc::clone(&gateway), policy.clone(), parts);
                (Some(policy), Either::Left(written))
            }
            None => {
                let written = each_part(Arc::clone(&gateway), Arc::clone(&plan), parts, write_part);
                (None, Either::Right(written))
            }
        };
        pin_mut!(written);

        let (mut progress, mut reported) = (WriteProgress::after(kept), Instant::now());
        while let Some(part) = written.next().await {
            match part? {
                WrittenPart::Shard(shard) => {
                    progress.add(*shard);
                    if let Some(upload) = &mut upload {
                        upload.record(&gateway, &plan, &progress).await?;
                    }
                    if reported.elapsed() >= PROGRESS_INTERVAL {
                        reported = Instant::now();
                        let upload = upload.as_ref().and_then(Upload::name).cloned();
                        yield PutEvent::Progress(Progress { upload, ..progress.progress(options.bytes) });
                    }
                }
                WrittenPart::End(hash) => {
                    let (mut put, manifest) = commit(&gateway, &plan, &mut progress, &hash, replaces.as_ref()).await?;
                    gateway.set_requested_names(&manifest, &options).await?;
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

async fn write_part(gateway: SharedGateway, plan: Arc<Plan>, part: Part) -> Result<WrittenPart, Error> {
    let written = |shard| Ok(WrittenPart::Shard(Box::new(shard)));
    match part {
        Part::Shard(text) => written(write_shard(gateway, plan, text, Placing::Shared).await?),
        Part::Whole(text) => written(write_shard(gateway, plan, text, Placing::Inline).await?),
        Part::End(hash) => Ok(WrittenPart::End(hash)),
    }
}

/// Makes what is written a document, or what `replaces` becomes. Gives the manifest as it is stored.
async fn commit(
    gateway: &SharedGateway,
    plan: &Plan,
    progress: &mut WriteProgress,
    hash: &TextHash,
    replaces: Option<&Manifest>,
) -> Result<(Stored, Manifest), Error> {
    let id = hash.id();
    let mut manifest = plan.manifest(id, std::mem::take(&mut progress.shards));
    // What is appended to a single shard is cut anew with all of it.
    if manifest.shards.len() > 1 {
        manifest.subtrees = hash.subtrees().to_vec();
    }
    let begun = Instant::now();
    let stored = match replaces {
        Some(old) => {
            manifest.created_unix_ms = old.created_unix_ms;
            let expires_unix_ms = plan.expires_unix_ms(old.created_unix_ms);
            manifest.expires_unix_ms = expires_unix_ms.or(old.expires_unix_ms);
            switch(gateway, old, manifest).await?
        }
        None => gateway.store.put_manifest(manifest).await?,
    };
    progress.times.store += begun.elapsed();
    let WriteProgress { bytes, tokens, reused, times, .. } = *progress;
    gateway.metrics.text(Direction::In, bytes, tokens);
    tracing::info!(%id, bytes, tokens, reused, "stored a document");
    let document = stored.value.document(stored.bytes);
    Ok((Stored { document, shards_reused: reused, times, bound_met: None }, stored.value))
}

/// Replaces `old` by `new` if it is still there, and as it was.
async fn switch(
    gateway: &SharedGateway,
    old: &Manifest,
    new: Manifest,
) -> Result<c3_store::StoredObject<Manifest>, Error> {
    if new.id != old.id {
        let problem = "its windows are right, but together they are another text";
        return Err(Error::DataLoss(format!("document {}: {problem}", old.id)));
    }
    match gateway.store.switch_manifest(old, new).await {
        Ok(Some(stored)) => Ok(stored),
        Ok(None) => Err(Error::Changed(old.id)),
        Err(StoreError::Missing { .. }) => Err(Error::NotFound(old.id.to_string())),
        Err(error) => Err(error.into()),
    }
}
