//! Lists documents in order of id, optionally filtered by labels and names.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use c3_store::document_list::IdRange;
use c3_store::manifest::{LocatedVersion, Manifest};
use c3_store::object::key::{DELETED, LABELS};
use c3_store::object::version::{Version, now_unix_ms};
use c3_store::{Error as StoreError, StoredObject};
use c3_types::{DamagedDocument, Document, DocumentId, DocumentPage, Labels, ListQuery, NameFilter};
use futures::{StreamExt, TryStreamExt, future, pin_mut, stream};

use crate::error::Error;
use crate::name_lists::NamesByDocument;
use crate::state::Gateway;

/// Maximum and default number of entries in a page.
const PAGE_SIZE_MAX: usize = 1000;
/// Maximum number of steps in which a page is filled. It bounds the manifests that one request reads.
const LIST_STEPS_MAX: usize = 8;
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
    ///
    /// A page has fewer documents than requested if, of the documents that it examined, few were created in the
    /// requested time.
    pub(crate) async fn list(&self, query: ListQuery) -> Result<DocumentPage, Error> {
        let count = page_size(query.page_size);
        let mut query = query;
        let mut page = DocumentPage::default();
        // Only manifests have the time of creation, so each step reads those of all other matches.
        for _ in 0..LIST_STEPS_MAX {
            let more = self.list_step(&query, count - page.documents.len() - page.damaged.len()).await?;
            page.documents.extend(more.documents);
            page.damaged.extend(more.damaged);
            page.next = more.next;
            if page.next.is_none() || page.documents.len() + page.damaged.len() >= count {
                break;
            }
            query.after = page.next;
        }
        Ok(page)
    }

    /// Returns the page of the next `count` matches, without those that were not created in the requested time.
    async fn list_step(&self, query: &ListQuery, count: usize) -> Result<DocumentPage, Error> {
        let mut matches = self.matches(query, count + 1).await?;
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
                Ok(document) if !query.created.contains(document.created_unix_ms) => {}
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

    /// Returns the first `limit` matches in order of id. Reads labels and, if the query filters by names, the names.
    /// Reads no manifests.
    async fn matches(&self, query: &ListQuery, limit: usize) -> Result<Vec<Match>, Error> {
        let named = match &query.names {
            Some(names) => Some(self.named_documents(names, query.after).await?),
            None => None,
        };
        let (mut matches, mut rest, mut count) = (Vec::new(), Some(query.after), limit);
        while let Some(after) = rest.filter(|_| matches.len() < limit) {
            let (documents, last) = match &named {
                Some(named) => {
                    let above = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
                    let ids =
                        named.range(above).map(|(&id, _)| id).filter(|id| id.to_string().starts_with(&query.prefix));
                    let ids = Vec::from_iter(ids.take(count));
                    let last = ids.last().copied().filter(|_| ids.len() == count);
                    (self.current_versions(ids).await?, last)
                }
                None => {
                    let documents = self.store.documents(&query.prefix, after, count).await?;
                    let last = documents.keys().next_back().copied().filter(|_| documents.len() == count);
                    (documents, last)
                }
            };
            matches.extend(self.matches_among(documents, query, named.as_deref()).await?);
            rest = last.map(Some);
            // Few documents may match, so each step examines more than the one before.
            count = (2 * count).min(PAGE_SIZE_MAX + 1);
        }
        matches.truncate(limit);
        Ok(matches)
    }

    /// Returns the documents that have the labels and names of the query, in order of id.
    async fn matches_among(
        &self,
        documents: BTreeMap<DocumentId, LocatedVersion>,
        query: &ListQuery,
        named: Option<&NamesByDocument>,
    ) -> Result<Vec<Match>, Error> {
        let (Some((&first, _)), Some((&last, _))) = (documents.first_key_value(), documents.last_key_value()) else {
            return Ok(Vec::new());
        };
        let ids = IdRange { first, last };
        let labelled = self.store.newest_versions(LABELS, ids).await?;
        let deleted = match labelled.is_empty() && named.is_none() {
            true => BTreeMap::new(),
            false => self.store.newest_versions(DELETED, ids).await?,
        };
        // Deleting a document also deletes the names and labels that were set before the deletion.
        let is_deleted = |id, since: Version| deleted.get(&id).is_some_and(|&deleted| deleted >= since);
        let candidates = documents.into_iter().filter_map(|(id, manifest)| {
            let names = match named {
                None => Vec::new(),
                Some(named) => {
                    let names = named.get(&id)?.iter().filter(|(_, since)| !is_deleted(id, *since));
                    let names = Vec::from_iter(names.map(|(name, _)| name.clone()));
                    Some(names).filter(|names| !names.is_empty())?
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
            future::ready(Ok(matched.then_some(Match { id, manifest, labels, names })))
        });
        Ok(matches.try_collect().await?)
    }

    async fn current_versions(&self, ids: Vec<DocumentId>) -> Result<BTreeMap<DocumentId, LocatedVersion>, Error> {
        let reads = stream::iter(ids).map(|id| async move {
            Ok::<_, StoreError>(self.store.current_version(id).await?.map(|located| (id, located)))
        });
        Ok(reads.buffered(READS_IN_FLIGHT).try_filter_map(future::ok).try_collect().await?)
    }

    /// Returns the documents that have a name that matches the filter. For a later page, which begins after a document,
    /// reuses the names that an earlier page read, if they are still cached.
    async fn named_documents(
        &self,
        filter: &NameFilter,
        after: Option<DocumentId>,
    ) -> Result<Arc<NamesByDocument>, Error> {
        if after.is_some()
            && let Some(named) = self.name_lists.get(filter).await
        {
            return Ok(named);
        }
        let named = Arc::new(self.read_named_documents(filter).await?);
        self.name_lists.insert(filter.clone(), Arc::clone(&named)).await;
        Ok(named)
    }

    /// Reads the names that match the filter, each with the version of the document on which it was set. Omits damaged
    /// names.
    async fn read_named_documents(&self, filter: &NameFilter) -> Result<NamesByDocument, Error> {
        let names = self.store.names_after(&filter.namespace, None);
        let names = names.try_filter(|(name, _)| future::ready(name.name().starts_with(&filter.prefix)));
        let registers = names.map_ok(|(name, listed)| async move {
            let register = self.store.listed_name(&name, &listed).await;
            Ok((name, register.map(|register| register.and_then(|register| register.value))))
        });
        let registers = registers.try_buffered(READS_IN_FLIGHT);
        pin_mut!(registers);
        let mut named = NamesByDocument::new();
        while let Some((name, read)) = registers.try_next().await? {
            match read {
                Ok(Some(value)) => {
                    let name = (name.name().to_owned(), value.version);
                    named.entry(value.document).or_default().push(name);
                }
                Ok(None) => {}
                // `list_names` reports damaged names.
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::warn!(%error, "a damaged name is omitted from a list of documents")
                }
                Err(error) => return Err(error.into()),
            }
        }
        for names in named.values_mut() {
            names.sort_unstable();
        }
        Ok(named)
    }

    /// Returns the ids of all documents that match a query.
    pub(crate) async fn all_ids(&self, query: ListQuery) -> Result<HashSet<DocumentId>, Error> {
        let (mut ids, mut query) = (HashSet::new(), query);
        loop {
            let page = self.list(query.clone()).await?;
            ids.extend(page.documents.iter().map(|document| document.id));
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(ids),
            }
        }
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
