//! The gateway itself: the parts that requests share, and what belongs to no pipeline: Stat, List, Delete, Nodes.
//!
//! The pipelines are in [`crate::write`] and [`crate::read`].

use std::sync::Arc;

use c3_proto::{DocumentId, IdPrefix, Invalid, pb};
use futures::{StreamExt, TryStreamExt, stream};

use crate::cache::ShardCache;
use crate::config::Config;
use crate::error::Failure;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::store::manifest::Manifest;
use crate::store::{Store, StoreError, Stored};
use crate::write::shard::Flights;

/// Documents of a page, where the caller names no number, and at most.
const PAGE_SIZE_MAX: usize = 1000;
/// Manifests of a page that are read side by side.
const MANIFESTS_AT_ONCE: usize = 16;
/// Candidates that the refusal of an ambiguous prefix names.
const CANDIDATES_MAX: usize = 10;

/// What requests share.
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) cache: ShardCache,
    pub(crate) nodes: Nodes,
    /// Shards being written, each once.
    pub(crate) flights: Flights,
    pub(crate) metrics: Metrics,
}

/// A page of documents.
pub(crate) struct Page {
    pub(crate) documents: Vec<pb::Document>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<DocumentId>,
}

impl Gateway {
    /// The document that an id or a unique beginning of one names, with its manifest.
    pub(crate) async fn find(&self, typed: &str) -> Result<Stored<Manifest>, Failure> {
        let id = self.resolve(typed).await?;
        self.manifest(id).await
    }

    /// A document as callers see it.
    pub(crate) async fn stat(&self, typed: &str) -> Result<pb::Document, Failure> {
        let found = self.find(typed).await?;
        Ok(found.value.document(found.bytes))
    }

    /// Removes a document. Its shards' objects stay: other documents, also ones being written, may share them.
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
        let next = ids.last().copied().filter(|_| more);
        let manifests = stream::iter(ids).map(|id| self.manifest(id)).buffered(MANIFESTS_AT_ONCE);
        // One that was deleted since is not listed.
        let there = manifests.filter(|found| std::future::ready(!matches!(found, Err(Failure::NotFound(_)))));
        let documents = there.map_ok(|found| found.value.document(found.bytes)).try_collect().await?;
        Ok(Page { documents, next })
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
        let mut names = Vec::from_iter(ids.iter().map(ToString::to_string));
        match ids.len() {
            0 => Err(Failure::NotFound(prefix.as_str().to_owned())),
            1 => Ok(*ids.first().expect("there is one")),
            count => {
                names.truncate(CANDIDATES_MAX);
                let more = if count > CANDIDATES_MAX { ", and more" } else { "" };
                let problem = format!("`{}` begins several: {}{more}", prefix.as_str(), names.join(", "));
                Err(Invalid::new("id", problem).into())
            }
        }
    }

    async fn manifest(&self, id: DocumentId) -> Result<Stored<Manifest>, Failure> {
        self.store.manifest(id).await.map_err(|error| match error {
            StoreError::Missing { .. } => Failure::NotFound(id.to_string()),
            error => Failure::of_document(id, "its manifest", &error),
        })
    }
}

/// The gateway as its requests hold it.
pub(crate) type SharedGateway = Arc<Gateway>;
