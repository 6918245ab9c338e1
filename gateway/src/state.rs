//! The gateway itself: the parts that requests share, and what belongs to no pipeline: Stat, Delete, Nodes.
//!
//! The pipelines are in [`crate::write`] and [`crate::read`]; [`crate::list`] lists, [`crate::names`] names.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_stream::try_stream;
use c3_proto::{DocumentId, DocumentRef, IdPrefix, Invalid, pb};
use futures::{Stream, TryStreamExt, pin_mut};
use tokio::time::MissedTickBehavior;

use crate::cache::{Found, Manifests, ShardCache, Whereabouts};
use crate::config::Config;
use crate::error::Failure;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::read::document::Reads;
use crate::store::cell::Cell;
use crate::store::check::{CheckEvent, Faults, check};
use crate::store::sweep::Swept;
use crate::store::uploads::UploadRecord;
use crate::store::{Shard, Store, StoreError};
use crate::write::shard::Flights;

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
    pub(crate) reads: Reads,
    pub(crate) metrics: Metrics,
    /// Held by the sweep that is under way.
    pub(crate) sweeping: tokio::sync::Mutex<()>,
}

impl Gateway {
    /// The document that an id, a unique beginning of one or a name stands for, with its manifest.
    pub(crate) async fn find(&self, typed: &str) -> Result<Arc<Found>, Failure> {
        match typed.parse()? {
            DocumentRef::Id(prefix) => self.manifest(self.resolve_prefix(&prefix).await?).await,
            DocumentRef::Name(name) => {
                let id = self.named(&name).await?;
                self.manifest(id).await.map_err(|failure| match failure {
                    Failure::NotFound(_) => Failure::NameGone { name, id },
                    failure => failure,
                })
            }
        }
    }

    /// A shard of a document, by its number: from its manifest, from memory or from the store.
    pub(crate) async fn shard(&self, found: &Found, number: usize) -> Result<Arc<Shard>, StoreError> {
        match found.whereabouts(number)? {
            Whereabouts::Here(shard) => Ok(Arc::clone(shard)),
            Whereabouts::At(names) => self.cache.get(names, &self.store).await,
        }
    }

    /// A document as callers see it.
    pub(crate) async fn stat(&self, typed: &str) -> Result<pb::StatResponse, Failure> {
        let found = self.find(typed).await?;
        let labels = self.store.labels(found.value.id).await?;
        let labels_token = labels.as_ref().map_or_else(String::new, Cell::token);
        let labels = labels.and_then(|cell| cell.state).map_or_else(HashMap::new, |of| of.labels.to_wire());
        let document = pb::Document { labels, ..found.value.document(found.bytes) };
        Ok(pb::StatResponse { document: Some(document), labels_token })
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
        match typed.parse()? {
            DocumentRef::Id(prefix) => self.resolve_prefix(&prefix).await,
            DocumentRef::Name(name) => self.named(&name).await,
        }
    }

    async fn resolve_prefix(&self, prefix: &IdPrefix) -> Result<DocumentId, Failure> {
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

    async fn manifest(&self, id: DocumentId) -> Result<Arc<Found>, Failure> {
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
