//! The gateway itself: the parts that requests share, and what belongs to no pipeline: Stat, List, Delete, Nodes.
//!
//! The pipelines are in [`crate::write`] and [`crate::read`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_stream::try_stream;
use c3_proto::{DocumentId, IdPrefix, Invalid, pb};
use futures::{Stream, StreamExt, TryStreamExt, pin_mut, stream};
use tokio::time::MissedTickBehavior;

use crate::cache::{Manifests, ShardCache};
use crate::config::Config;
use crate::error::Failure;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::store::check::{CheckEvent, Faults, check};
use crate::store::documents::Located;
use crate::store::layout;
use crate::store::manifest::{Manifest, ShardEntry};
use crate::store::shards::inline_shard;
use crate::store::stamp::now_unix_ms;
use crate::store::sweep::Swept;
use crate::store::uploads::UploadRecord;
use crate::store::{Shard, Store, StoreError, Stored};
use crate::write::shard::Flights;

/// Documents of a page, where the caller names no number, and at most.
const PAGE_SIZE_MAX: usize = 1000;
/// Manifests of a page that are read side by side.
const MANIFESTS_AT_ONCE: usize = 16;
/// Shards that a node has of one text: it computes one or two, and the others wait for it or for the other stage.
const SHARDS_EACH_NODE: usize = 4;
/// Candidates that the refusal of an ambiguous prefix names.
const CANDIDATES_MAX: usize = 10;

/// What requests share.
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) cache: ShardCache,
    pub(crate) manifests: Manifests,
    pub(crate) nodes: Nodes,
    /// Shards being written, each once.
    pub(crate) flights: Flights,
    pub(crate) metrics: Metrics,
    /// Held by the sweep that is under way.
    pub(crate) sweeping: tokio::sync::Mutex<()>,
}

/// A page of documents.
pub(crate) struct Page {
    pub(crate) documents: Vec<pb::Document>,
    /// Those that are there and cannot be read, with what is wrong.
    pub(crate) damaged: Vec<(DocumentId, String)>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<DocumentId>,
}

impl Gateway {
    /// The document that an id or a unique beginning of one names, with its manifest.
    pub(crate) async fn find(&self, typed: &str) -> Result<Arc<Stored<Manifest>>, Failure> {
        let id = self.resolve(typed).await?;
        self.manifest(id).await
    }

    /// A shard of a document: from its manifest, from memory or from the store.
    pub(crate) async fn shard(
        &self,
        manifest: &Manifest,
        entry: &ShardEntry,
    ) -> Result<Arc<Shard>, StoreError> {
        match (inline_shard(manifest, entry), manifest.names(entry)) {
            (Some(shard), _) => shard.map(Arc::new),
            (None, Some(names)) => self.cache.get(&names, &self.store).await,
            (None, None) => {
                let object = layout::manifest(manifest.id, manifest.version);
                Err(StoreError::damaged(&object, "it does not say where its shards are"))
            }
        }
    }

    /// A document as callers see it.
    pub(crate) async fn stat(&self, typed: &str) -> Result<pb::Document, Failure> {
        let found = self.find(typed).await?;
        Ok(found.value.document(found.bytes))
    }

    /// Removes a document. Its shards' objects, which other documents may share, are left to the sweep.
    pub(crate) async fn delete(&self, typed: &str) -> Result<DocumentId, Failure> {
        let id = self.resolve(typed).await?;
        match self.store.delete(id).await {
            Ok(()) => Ok(id),
            Err(StoreError::Missing { .. }) => Err(Failure::NotFound(id.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Documents by id: those whose id begins with `prefix` and comes after `after`.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        page_size: u32,
        after: Option<DocumentId>,
    ) -> Result<Page, Failure> {
        let prefix = prefix.to_ascii_lowercase();
        if !prefix.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Invalid::new("prefix", "must be hexadecimal digits").into());
        }
        let count = match page_size as usize {
            0 => PAGE_SIZE_MAX,
            asked => asked.min(PAGE_SIZE_MAX),
        };
        let mut ids = self.store.documents(&prefix, after, count + 1).await?;
        let more = ids.len() > count;
        if more {
            ids.pop_last();
        }
        let next = ids.last_key_value().map(|(&id, _)| id).filter(|_| more);
        let manifests = stream::iter(ids).map(|(id, found)| self.listed(id, found));
        let mut manifests = manifests.buffered(MANIFESTS_AT_ONCE);
        let mut page = Page { documents: Vec::new(), damaged: Vec::new(), next };
        while let Some((id, read)) = manifests.next().await {
            match read {
                Ok(found) => page.documents.push(found.value.document(found.bytes)),
                // Deleted since, or past its time.
                Err(StoreError::Missing { .. }) => {}
                Err(error @ StoreError::Damaged { .. }) => page.damaged.push((id, error.to_string())),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(page)
    }

    async fn listed(
        &self,
        id: DocumentId,
        found: Located,
    ) -> (DocumentId, Result<Stored<Manifest>, StoreError>) {
        let read = match self.store.read_manifest(id, &found).await {
            // Moved since, or past its time.
            Err(StoreError::Missing { .. }) => self.store.manifest(id).await,
            Ok(manifest) if manifest.value.is_expired(now_unix_ms()) => self.store.manifest(id).await,
            read => read,
        };
        (id, read)
    }

    /// Removes what nothing refers to any more.
    pub(crate) async fn sweep(&self, grace: Option<Duration>) -> Result<Swept, Failure> {
        let _one_at_a_time = self.sweeping.lock().await;
        let begun = Instant::now();
        let swept = self.store.sweep(grace.unwrap_or(self.config.grace())).await;
        self.metrics.sweep(begun.elapsed(), swept.as_ref().ok());
        let swept = swept?;
        tracing::info!(?swept, "swept the store");
        Ok(swept)
    }

    /// Sweeps for ever, so often.
    pub(crate) async fn keep_sweeping(self: Arc<Self>, every: Duration) {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.sweep(None).await {
                tracing::error!(%error, "the sweep failed; the next one goes on");
            }
        }
    }

    /// Puts that did not end and can be taken up, by name.
    pub(crate) async fn uploads(&self) -> Result<Vec<UploadRecord>, Failure> {
        Ok(self.store.uploads().await?)
    }

    /// Shards of one text that are under way side by side: what keeps the nodes busy, for what is under way when a put
    /// breaks off is done again.
    pub(crate) fn shards_at_once(&self) -> usize {
        let ready = self.nodes.list().iter().filter(|node| node.ready().is_some()).count();
        self.config.shards_in_flight.min(SHARDS_EACH_NODE * ready.max(1))
    }

    /// Every node with its condition.
    pub(crate) fn nodes(&self) -> Vec<pb::Node> {
        self.nodes.list().iter().map(|node| node.to_wire()).collect()
    }

    async fn resolve(&self, typed: &str) -> Result<DocumentId, Failure> {
        let prefix: IdPrefix = typed.parse()?;
        if let Some(id) = prefix.whole() {
            return Ok(id);
        }
        let ids = self.store.documents(prefix.as_str(), None, CANDIDATES_MAX + 1).await?;
        let mut names = Vec::from_iter(ids.keys().map(ToString::to_string));
        match ids.len() {
            0 => Err(Failure::NotFound(prefix.as_str().to_owned())),
            1 => Ok(*ids.first_key_value().expect("there is one").0),
            count => {
                names.truncate(CANDIDATES_MAX);
                let more = if count > CANDIDATES_MAX { ", and more" } else { "" };
                let problem = format!("`{}` begins several: {}{more}", prefix.as_str(), names.join(", "));
                Err(Invalid::new("id", problem).into())
            }
        }
    }

    async fn manifest(&self, id: DocumentId) -> Result<Arc<Stored<Manifest>>, Failure> {
        self.manifests.get(id, &self.store).await.map_err(|error| match error {
            StoreError::Missing { .. } => Failure::NotFound(id.to_string()),
            error => Failure::of_document(id, "its manifest", &error),
        })
    }
}

/// Reads every object and tells what is wrong with it.
pub(crate) fn check_store(
    gateway: SharedGateway,
    faults: Faults,
) -> impl Stream<Item = Result<CheckEvent, Failure>> + Send {
    try_stream! {
        let events = check(&gateway.store, faults);
        pin_mut!(events);
        while let Some(event) = events.try_next().await? {
            yield event;
        }
    }
}

/// The gateway as its requests hold it.
pub(crate) type SharedGateway = Arc<Gateway>;
