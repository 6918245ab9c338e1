//! List: documents by id, all or those with certain labels or names.

use std::collections::HashMap;

use c3_proto::{DocumentId, Invalid, Labels, Namespace, pb};
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::Failure;
use crate::gateway::Gateway;
use crate::store::documents::Located;
use crate::store::layout::{DELETED, LABELS};
use crate::store::manifest::Manifest;
use crate::store::stamp::{Stamp, now_unix_ms};
use crate::store::{StoreError, Stored};

/// Documents, or names, of a page, where the caller names no number, and at most.
const PAGE_SIZE_MAX: usize = 1000;
/// Objects of a page that are read side by side.
pub(crate) const READS_AT_ONCE: usize = 16;

/// Which documents to list.
#[derive(Clone, Debug)]
pub(crate) struct ListQuery {
    /// Digits that ids begin with.
    pub(crate) prefix: String,
    /// Only ids after this one.
    pub(crate) after: Option<DocumentId>,
    /// Only documents that have all of these.
    pub(crate) labels: Labels,
    /// Only documents with such a name.
    pub(crate) names: Option<NamesQuery>,
    /// 0: the most.
    pub(crate) page_size: u32,
}

/// Which names a document must have.
#[derive(Clone, Debug)]
pub(crate) struct NamesQuery {
    pub(crate) namespace: Namespace,
    pub(crate) prefix: String,
}

/// A page of documents.
pub(crate) struct Page {
    pub(crate) documents: Vec<pb::Document>,
    /// Those that are there and cannot be read, with what is wrong.
    pub(crate) damaged: Vec<(DocumentId, String)>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<DocumentId>,
}

/// What is listed of a document beside its manifest.
type Notes = (Located, Labels, Vec<String>);

impl ListQuery {
    /// Checks what arrived.
    pub(crate) fn from_wire(wire: pb::ListRequest) -> Result<Self, Invalid> {
        let prefix = wire.prefix.to_ascii_lowercase();
        if !prefix.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Invalid::new("prefix", "must be hexadecimal digits"));
        }
        let token = Some(wire.page_token).filter(|token| !token.is_empty());
        let after = token.map(|token| token.parse::<DocumentId>()).transpose();
        let names = wire.names.map(|pb::NamesFilter { namespace, prefix }| {
            Ok::<_, Invalid>(NamesQuery { namespace: Namespace::from_wire(namespace)?, prefix })
        });
        Ok(Self {
            prefix,
            after: after.map_err(|_| Invalid::new("page_token", "is not one that a list gave"))?,
            labels: Labels::new(wire.labels)?,
            names: names.transpose()?,
            page_size: wire.page_size,
        })
    }
}

/// How many lines a page has.
pub(crate) fn page_size(asked: u32) -> usize {
    match asked as usize {
        0 => PAGE_SIZE_MAX,
        asked => asked.min(PAGE_SIZE_MAX),
    }
}

impl Gateway {
    /// Documents by id.
    pub(crate) async fn list(&self, query: ListQuery) -> Result<Page, Failure> {
        let count = page_size(query.page_size);
        let mut found = self.noted(&query, count + 1).await?;
        let more = found.len() > count;
        found.truncate(count);
        let next = found.last().map(|&(id, _)| id).filter(|_| more);
        let manifests = stream::iter(found).map(|(id, (located, labels, names))| async move {
            let read = self.listed(id, located).await;
            let document = read.map(|found| pb::Document {
                labels: labels.to_wire(),
                names,
                ..found.value.document(found.bytes)
            });
            (id, document)
        });
        let mut manifests = manifests.buffered(READS_AT_ONCE);
        let mut page = Page { documents: Vec::new(), damaged: Vec::new(), next };
        while let Some((id, read)) = manifests.next().await {
            match read {
                Ok(document) => page.documents.push(document),
                // Deleted since, or past its time.
                Err(StoreError::Missing { .. }) => {}
                Err(error @ StoreError::Damaged { .. }) => page.damaged.push((id, error.to_string())),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(page)
    }

    /// The first `most` documents that are asked for, by id. Reads no manifest: labels and names are objects of their own.
    async fn noted(&self, query: &ListQuery, most: usize) -> Result<Vec<(DocumentId, Notes)>, Failure> {
        let filtered = query.names.is_some() || !query.labels.is_empty();
        // What tells of a document was written after it, so it is listed before.
        let labelled = self.store.newest_below(LABELS, &query.prefix).await?;
        let mut named = match &query.names {
            Some(names) => Some(self.named_documents(names).await?),
            None => None,
        };
        let listed = if filtered { usize::MAX } else { most };
        let documents = self.store.documents(&query.prefix, query.after, listed).await?;
        let deleted = match labelled.is_empty() && named.is_none() {
            true => HashMap::new(),
            false => self.store.newest_below(DELETED, &query.prefix).await?,
        };
        let is_deleted = |id, since: Stamp| deleted.get(&id).is_some_and(|&deleted| deleted >= since);
        let wanted = documents.into_iter().filter_map(|(id, located)| {
            let names = match &mut named {
                None => Vec::new(),
                Some(named) => {
                    let names = named.remove(&id)?.into_iter();
                    let names = names.filter(|(_, since)| !is_deleted(id, *since)).map(|(name, _)| name);
                    Some(Vec::from_iter(names)).filter(|names| !names.is_empty())?
                }
            };
            let generation = labelled.get(&id).copied();
            (query.labels.is_empty() || generation.is_some()).then_some((id, located, names, generation))
        });
        let noted = stream::iter(Vec::from_iter(wanted)).map(|(id, located, names, generation)| async move {
            let labels = match generation {
                Some(generation) => self.store.listed_labels(id, generation).await,
                None => Ok(None),
            };
            labels.map(|labels| (id, located, labels, names))
        });
        let noted = noted.buffered(READS_AT_ONCE).try_filter_map(|(id, located, labels, names)| {
            let labels = labels.filter(|state| !is_deleted(id, state.version));
            let labels = labels.map_or_else(Labels::default, |state| state.labels);
            let wanted = labels.have(&query.labels).then_some((id, (located, labels, names)));
            std::future::ready(Ok(wanted))
        });
        Ok(noted.take(most).try_collect().await?)
    }

    /// Documents with names that are asked for: each name with the version of the document that was there then.
    async fn named_documents(
        &self,
        query: &NamesQuery,
    ) -> Result<HashMap<DocumentId, Vec<(String, Stamp)>>, Failure> {
        let mut names = self.store.names(Some(&query.namespace)).await?;
        names.retain(|name, _| name.name().starts_with(&query.prefix));
        let cells = stream::iter(names).map(|(name, listed)| async move {
            let cell = self.store.listed_name(&name, &listed).await?;
            Ok::<_, StoreError>((name, cell))
        });
        let mut cells = cells.buffered(READS_AT_ONCE);
        let mut named = HashMap::<DocumentId, Vec<_>>::new();
        while let Some(read) = cells.next().await {
            match read {
                Ok((name, Some(cell))) => {
                    if let Some(state) = cell.state {
                        let name = (name.name().to_owned(), state.version);
                        named.entry(state.document).or_default().push(name);
                    }
                }
                Ok((_, None)) => {}
                // A list of names tells of it; the documents of the others are found.
                Err(error @ StoreError::Damaged { .. }) => tracing::warn!(%error, "it is left out of a list"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(named)
    }

    /// Reads the manifest of a document that was listed.
    pub(crate) async fn listed(
        &self,
        id: DocumentId,
        found: Located,
    ) -> Result<Stored<Manifest>, StoreError> {
        match self.store.read_manifest(id, &found).await {
            // Moved since, or past its time.
            Err(StoreError::Missing { .. }) => self.store.manifest(id).await,
            Ok(manifest) if manifest.value.is_expired(now_unix_ms()) => self.store.manifest(id).await,
            read => read,
        }
    }
}
