//! Lists documents in order of id, optionally filtered by labels and names.

use std::collections::HashMap;

use c3_store::manifest::{LocatedVersion, Manifest};
use c3_store::object::key::{DELETED, LABELS};
use c3_store::object::version::{Version, now_unix_ms};
use c3_store::{Error as StoreError, StoredObject};
use c3_types::{DamagedDocument, Document, DocumentId, DocumentPage, Labels, ListQuery, NameFilter};
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::Error;
use crate::state::Gateway;

/// Maximum and default number of entries in a page.
const PAGE_SIZE_MAX: usize = 1000;
/// Maximum number of objects that a request reads concurrently.
pub(crate) const READS_IN_FLIGHT: usize = 16;

/// Document that matches a query, before its manifest is read.
struct Match {
    id: DocumentId,
    manifest: LocatedVersion,
    labels: Labels,
    names: Vec<String>,
}

/// Returns the maximum number of entries in a page. `requested` is the caller's page size; 0 requests the default.
pub(crate) fn page_size(requested: u32) -> usize {
    match requested as usize {
        0 => PAGE_SIZE_MAX,
        requested => requested.min(PAGE_SIZE_MAX),
    }
}

impl Gateway {
    /// Returns a page of documents in order of id. Damaged documents are in a separate list. Omits expired documents.
    pub(crate) async fn list(&self, query: ListQuery) -> Result<DocumentPage, Error> {
        let count = page_size(query.page_size);
        let mut matches = self.matches(&query, count + 1).await?;
        let has_more = matches.len() > count;
        matches.truncate(count);
        let next = matches.last().map(|last| last.id).filter(|_| has_more);
        let documents = stream::iter(matches).map(|Match { id, manifest, labels, names }| async move {
            let read = self.listed(id, manifest).await;
            let document = read.map(|found| Document { labels, names, ..found.value.document(found.bytes) });
            (id, document)
        });
        let mut documents = documents.buffered(READS_IN_FLIGHT);
        let mut page = DocumentPage { next, ..DocumentPage::default() };
        while let Some((id, read)) = documents.next().await {
            match read {
                Ok(document) => page.documents.push(document),
                // The document expired, or was deleted after it was listed.
                Err(StoreError::Missing { .. }) => {}
                Err(error @ StoreError::Damaged { .. }) => {
                    page.damaged.push(DamagedDocument { id, problem: error.to_string() })
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(page)
    }

    /// Returns the first `limit` matches in order of id. Reads labels, and names if filtered by names; no manifests.
    async fn matches(&self, query: &ListQuery, limit: usize) -> Result<Vec<Match>, Error> {
        let is_filtered = query.names.is_some() || !query.labels.is_empty();
        // Labels and names are written after their document. They are listed before it, so the later list contains it.
        let labelled = self.store.newest_versions(LABELS, &query.prefix).await?;
        let mut named = match &query.names {
            Some(names) => Some(self.named_documents(names).await?),
            None => None,
        };
        let documents_max = if is_filtered { usize::MAX } else { limit };
        let documents = self.store.documents(&query.prefix, query.after, documents_max).await?;
        let deleted = match labelled.is_empty() && named.is_none() {
            true => HashMap::new(),
            false => self.store.newest_versions(DELETED, &query.prefix).await?,
        };
        // Deleting a document also deletes the names and labels that were set before.
        let is_deleted = |id, since: Version| deleted.get(&id).is_some_and(|&deleted| deleted >= since);
        let candidates = documents.into_iter().filter_map(|(id, manifest)| {
            let names = match &mut named {
                None => Vec::new(),
                Some(named) => {
                    let names = named.remove(&id)?.into_iter();
                    let names = names.filter(|(_, since)| !is_deleted(id, *since)).map(|(name, _)| name);
                    Some(Vec::from_iter(names)).filter(|names| !names.is_empty())?
                }
            };
            let labels = labelled.get(&id).copied();
            (query.labels.is_empty() || labels.is_some()).then_some((id, manifest, names, labels))
        });
        let reads = stream::iter(Vec::from_iter(candidates)).map(|(id, manifest, names, labels)| async move {
            let labels = match labels {
                Some(version) => self.store.listed_labels(id, version).await?,
                None => None,
            };
            Ok::<_, StoreError>((id, manifest, names, labels))
        });
        let matches = reads.buffered(READS_IN_FLIGHT).try_filter_map(|(id, manifest, names, labels)| {
            let labels = labels.filter(|value| !is_deleted(id, value.version));
            let labels = labels.map_or_else(Labels::default, |value| value.labels);
            let matched = labels.contains_all(&query.labels);
            std::future::ready(Ok(matched.then_some(Match { id, manifest, labels, names })))
        });
        Ok(matches.take(limit).try_collect().await?)
    }

    /// Returns matching names by document, each with the document version that it was set on. Omits damaged names.
    async fn named_documents(&self, filter: &NameFilter) -> Result<HashMap<DocumentId, Vec<(String, Version)>>, Error> {
        let mut names = self.store.names(Some(&filter.namespace)).await?;
        names.retain(|name, _| name.name().starts_with(&filter.prefix));
        let registers = stream::iter(names).map(|(name, listed)| async move {
            let register = self.store.listed_name(&name, &listed).await?;
            Ok::<_, StoreError>((name, register.and_then(|register| register.value)))
        });
        let mut registers = registers.buffered(READS_IN_FLIGHT);
        let mut named = HashMap::<DocumentId, Vec<_>>::new();
        while let Some(read) = registers.next().await {
            match read {
                Ok((name, Some(value))) => {
                    let name = (name.name().to_owned(), value.version);
                    named.entry(value.document).or_default().push(name);
                }
                Ok((_, None)) => {}
                // `list_names` reports damaged names.
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::warn!(%error, "a damaged name is omitted from a list of documents")
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(named)
    }

    /// Returns the listed manifest of a document, or the current one if the listed one is gone or has expired.
    pub(crate) async fn listed(
        &self,
        id: DocumentId,
        located: LocatedVersion,
    ) -> Result<StoredObject<Manifest>, StoreError> {
        match self.store.read_manifest(id, &located).await {
            // The manifest was moved, replaced or deleted after it was listed.
            Err(StoreError::Missing { .. }) => self.store.manifest(id).await,
            Ok(manifest) if manifest.value.is_expired(now_unix_ms()) => self.store.manifest(id).await,
            read => read,
        }
    }
}
