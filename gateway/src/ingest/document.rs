//! PutDocument: a text becomes a document.
//!
//! Shards are written several side by side and counted in order. The next one is read from the caller only when there
//! is room for it, so a slow store or a busy node slows the caller and fills no memory. The manifest is written last:
//! before it nothing is visible, after it all is durable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_stream::try_stream;
use bytes::Bytes;
use c3_proto::{Base, UploadName, WriteOptions, pb};
use futures::future::Either;
use futures::{Stream, StreamExt, pin_mut};

use super::auto::{Choice, choose};
use super::base::{Continued, text_again};
use super::plan::Plan;
use super::shard::{Keep, StageTimes, WrittenShard, write_shard};
use super::tally::{Progress, Tally};
use super::upload::{self, Upload};
use super::{each_part, limits, recode};
use crate::error::Failure;
use crate::gateway::SharedGateway;
use crate::hash::TextHash;
use crate::metrics::Direction;
use crate::store::manifest::{Manifest, ShardEntry};
use crate::store::uploads::UploadRecord;
use crate::text::{self, Part};

/// Least time between two reports: a caller that sends all before it reads finds only a few waiting.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// What the caller of a put is told.
#[derive(Debug)]
pub(crate) enum PutEvent {
    Progress {
        progress: Progress,
        /// Names the put, once it can be taken up by that.
        upload: Option<UploadName>,
    },
    Done(Box<Put>),
}

/// A document that is durable.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) document: pb::Document,
    pub(crate) shards_reused: u64,
    pub(crate) times: StageTimes,
    /// Where its ratios were chosen: whether it keeps the bound.
    pub(crate) bound_met: Option<bool>,
}

/// What a part of the text became.
pub(super) enum Written {
    Shard(Box<WrittenShard>),
    End(TextHash),
}

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

/// Stores a text that arrives in pieces. Ends with [`PutEvent::Done`] or a failure.
pub(crate) fn put_document<S>(
    gateway: SharedGateway,
    options: WriteOptions,
    pieces: S,
) -> impl Stream<Item = Result<PutEvent, Failure>> + Send
where
    S: Stream<Item = Result<Bytes, Failure>> + Send,
{
    try_stream! {
        let (mut options, record) = taken_up(&gateway, options).await?;
        let base = match &options.base {
            Some(base) => Some(gateway.find(base.id().as_str()).await?),
            None => None,
        };
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

/// The options with a base's whole id and, where they name a put that was begun, as it was begun.
async fn taken_up(
    gateway: &SharedGateway,
    mut options: WriteOptions,
) -> Result<(WriteOptions, Option<UploadRecord>), Failure> {
    if let Some(base) = &options.base {
        let id = gateway.find(base.id().as_str()).await?.value.id;
        options.base = Some(upload::whole(base, id));
    }
    let Some(name) = &options.upload else { return Ok((options, None)) };
    match gateway.store.upload(name).await? {
        Some(record) => Ok((upload::taken_up(options, &record)?, Some(record))),
        None => Ok((options, None)),
    }
}

/// Stores a text.
pub(super) fn write_text<S>(
    gateway: SharedGateway,
    writing: Writing,
    parts: S,
) -> impl Stream<Item = Result<PutEvent, Failure>> + Send
where
    S: Stream<Item = Result<Part, Failure>> + Send,
{
    try_stream! {
        let _under_way = gateway.store.begin_put();
        let Writing { plan, options, kept, replaces, mut upload } = writing;
        let (choice, written) = match &options.auto_ratio {
            Some(auto) => {
                let choice = Choice::new(auto, &plan, &options, &gateway).await?;
                let written = choose(Arc::clone(&gateway), choice.clone(), parts);
                (Some(choice), Either::Left(written))
            }
            None => {
                let written = each_part(Arc::clone(&gateway), Arc::clone(&plan), parts, write_part);
                (None, Either::Right(written))
            }
        };
        pin_mut!(written);

        let (mut tally, mut reported) = (Tally::after(kept), Instant::now());
        while let Some(part) = written.next().await {
            match part? {
                Written::Shard(shard) => {
                    tally.add(*shard);
                    if let Some(upload) = &mut upload {
                        upload.record(&gateway, &plan, &tally).await?;
                    }
                    if reported.elapsed() >= PROGRESS_INTERVAL {
                        reported = Instant::now();
                        let upload = upload.as_ref().and_then(Upload::name).cloned();
                        yield PutEvent::Progress { progress: tally.progress(options.bytes), upload };
                    }
                }
                Written::End(hash) => {
                    let (mut put, manifest) = commit(&gateway, &plan, &mut tally, &hash, replaces.as_ref()).await?;
                    gateway.call_as_asked(&manifest, &options).await?;
                    put.bound_met = choice.as_ref().map(|choice| choice.is_met(&put.document));
                    if let Some(upload) = &upload {
                        upload.end(&gateway).await;
                    }
                    yield PutEvent::Done(Box::new(put));
                }
            }
        }
    }
}

async fn write_part(gateway: SharedGateway, plan: Arc<Plan>, part: Part) -> Result<Written, Failure> {
    let written = |shard| Ok(Written::Shard(Box::new(shard)));
    match part {
        Part::Shard(text) => written(write_shard(gateway, plan, text, Keep::Shared).await?),
        Part::Whole(text) => written(write_shard(gateway, plan, text, Keep::Inline).await?),
        Part::End(hash) => Ok(Written::End(hash)),
    }
}

/// Makes what is written a document, or what `replaces` becomes. Gives the manifest as it is stored.
async fn commit(
    gateway: &SharedGateway,
    plan: &Plan,
    tally: &mut Tally,
    hash: &TextHash,
    replaces: Option<&Manifest>,
) -> Result<(Put, Manifest), Failure> {
    let id = hash.id();
    let mut manifest = plan.manifest(id, std::mem::take(&mut tally.shards));
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
            recode::switch(gateway, old, manifest).await?
        }
        None => gateway.store.put_manifest(manifest).await?,
    };
    tally.times.store += begun.elapsed();
    let Tally { bytes, tokens, reused, times, .. } = *tally;
    gateway.metrics.text(Direction::In, bytes, tokens);
    tracing::info!(%id, bytes, tokens, reused, "stored a document");
    let document = stored.value.document(stored.bytes);
    Ok((Put { document, shards_reused: reused, times, bound_met: None }, stored.value))
}
