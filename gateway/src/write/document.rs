//! PutDocument: a text becomes a document.
//!
//! Shards are written several side by side and counted in order. The next one is read from the caller only when there
//! is room for it, so a slow store or a busy node slows the caller and fills no memory. The manifest is written last:
//! before it nothing is visible, after it all is durable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_stream::try_stream;
use bytes::Bytes;
use c3_proto::{DocumentId, WriteOptions, pb};
use futures::future::Either;
use futures::{Stream, StreamExt, pin_mut};

use super::auto::{Choice, choose};
use super::plan::Plan;
use super::shard::{Keep, StageTimes, WrittenShard, write_shard};
use super::{each_part, limits, recode};
use crate::error::Failure;
use crate::gateway::SharedGateway;
use crate::metrics::Direction;
use crate::store::manifest::{Manifest, ShardEntry};
use crate::store::stamp::{Stamp, now_unix_ms};
use crate::text::{self, Part};

/// Least time between two reports: a caller that sends all before it reads finds only a few waiting.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// What the caller of a put is told.
#[derive(Debug)]
pub(crate) enum PutEvent {
    Progress { bytes: u64, tokens: u64 },
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
    End { id: DocumentId },
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
        let limits = limits(&gateway, &options)?;
        let plan = Arc::new(Plan::new(&options, &gateway).await?);
        let events = write_text(gateway, plan, options, text::shards(pieces, limits), None);
        pin_mut!(events);
        while let Some(event) = events.next().await {
            yield event?;
        }
    }
}

/// Stores a text, in the place of `replaces` where that is given.
pub(super) fn write_text<S>(
    gateway: SharedGateway,
    plan: Arc<Plan>,
    options: WriteOptions,
    parts: S,
    replaces: Option<Manifest>,
) -> impl Stream<Item = Result<PutEvent, Failure>> + Send
where
    S: Stream<Item = Result<Part, Failure>> + Send,
{
    try_stream! {
        let _under_way = gateway.store.begin_put();
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

        let (mut tally, mut reported) = (Tally::default(), Instant::now());
        while let Some(part) = written.next().await {
            match part? {
                Written::Shard(shard) => {
                    tally.add(*shard);
                    if reported.elapsed() >= PROGRESS_INTERVAL {
                        reported = Instant::now();
                        yield PutEvent::Progress { bytes: tally.bytes, tokens: tally.tokens };
                    }
                }
                Written::End { id } => {
                    let (mut put, manifest) = tally.commit(&gateway, &plan, id, replaces.as_ref()).await?;
                    gateway.call_as_asked(&manifest, &options).await?;
                    put.bound_met = choice.as_ref().map(|choice| choice.is_met(&put.document));
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
        Part::End { id } => Ok(Written::End { id }),
    }
}

/// What was written so far.
#[derive(Default)]
struct Tally {
    bytes: u64,
    tokens: u64,
    shards: Vec<ShardEntry>,
    reused: u64,
    times: StageTimes,
}

impl Tally {
    fn add(&mut self, shard: WrittenShard) {
        self.bytes += shard.entry.bytes();
        self.tokens += shard.entry.tokens;
        self.reused += u64::from(shard.reused);
        self.times += shard.times;
        self.shards.push(shard.entry);
    }

    /// Makes it a document, or what `replaces` becomes. Gives the manifest as it is stored.
    async fn commit(
        &mut self,
        gateway: &SharedGateway,
        plan: &Plan,
        id: DocumentId,
        replaces: Option<&Manifest>,
    ) -> Result<(Put, Manifest), Failure> {
        let shards = std::mem::take(&mut self.shards);
        let created_unix_ms = replaces.map_or_else(now_unix_ms, |old| old.created_unix_ms);
        let ttl_ms = plan.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let expires_unix_ms = ttl_ms.map(|ttl_ms| created_unix_ms.saturating_add(ttl_ms));
        let manifest = Manifest {
            id,
            version: Stamp::NONE,
            cascade: plan.cascade.clone(),
            ratio: Manifest::ratio_of(&shards, plan.ratio),
            codec: plan.codec,
            verification: plan.verification.clone(),
            created_unix_ms,
            expires_unix_ms: expires_unix_ms.or_else(|| replaces?.expires_unix_ms),
            shards,
        };
        let begun = Instant::now();
        let stored = match replaces {
            Some(old) => recode::switch(gateway, old, manifest).await?,
            None => gateway.store.put_manifest(manifest).await?,
        };
        self.times.store += begun.elapsed();
        gateway.metrics.text(Direction::In, self.bytes, self.tokens);
        tracing::info!(%id, bytes = self.bytes, tokens = self.tokens, reused = self.reused, "stored a document");
        let put = Put {
            document: stored.value.document(stored.bytes),
            shards_reused: self.reused,
            times: self.times,
            bound_met: None,
        };
        Ok((put, stored.value))
    }
}
