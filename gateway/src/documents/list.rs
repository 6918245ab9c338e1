//! Lists of documents by id, optionally filtered by labels or names.

use std::collections::HashMap;

use c3_store::manifest::{LocatedVersion, Manifest};
use c3_store::object::key::{DELETED, LABELS};
use c3_store::object::version::{Version, now_unix_ms};
use c3_store::{Error as StoreError, StoredObject};
use c3_types::{DamagedDocument, Document, DocumentId, DocumentPage, Labels, ListQuery, NameFilter};
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::Error;
use crate::state::Gateway;

/// Documents, or names, of a page, where the caller names no number, and at most.
const PAGE_SIZE_MAX: usize = 1000;
/// Objects of a page that are read side by side.
pub(crate) const READS_AT_ONCE: usize = 16;

/// What is listed of a document beside its manifest.
type Notes = (LocatedVersion, Labels, Vec<String>);

/// How many lines a page has.
pub(crate) fn page_size(asked: u32) -> usize {
    match asked as usize {
        0 => PAGE_SIZE_MAX,
        asked => asked.min(PAGE_SIZE_MAX),
    }
}

impl Gateway {
    /// Documents by id.
    pub(crate) async fn list(&self, query: ListQuery) -> Result<DocumentPage, Error> {
        let count = page_size(query.page_size);
        let mut found = self.noted(&query, count + 1).await?;
        let more = found.len() > count;
        found.truncate(count);
        let next = found.last().map(|&(id, _)| id).filter(|_| more);
        let manifests = stream::iter(found).map(|(id, (located, labels, names))| async move {
            let read = self.listed(id, located).await;
            let document = read.map(|found| Document { labels, names, ..found.value.document(found.bytes) });
            (id, document)
        });
        let mut manifests = manifests.buffered(READS_AT_ONCE);
        let mut page = DocumentPage { next, ..DocumentPage::default() };
        while let Some((id, read)) = manifests.next().await {
            match read {
                Ok(document) => page.documents.push(document),
                // Deleted since, or past its time.
                Err(StoreError::Missing { .. }) => {}
                Err(error @ StoreError::Damaged { .. }) => {
                    page.damaged.push(DamagedDocument { id, problem: error.to_string() })
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(page)
    }

    /// The first `most` documents that are asked for, by id. Reads no manifest: labels and names are objects of their own.
    async fn noted(&self, query: &ListQuery, most: usize) -> Result<Vec<(DocumentId, Notes)>, Error> {
        let filtered = query.names.is_some() || !query.labels.is_empty();
        // What tells of a document was written after it, so it is listed before.
        let labelled = self.store.newest_versions(LABELS, &query.prefix).await?;
        let mut named = match &query.names {
            Some(names) => Some(self.named_documents(names).await?),
            None => None,
        };
        let listed = if filtered { usize::MAX } else { most };
        let documents = self.store.documents(&query.prefix, query.after, listed).await?;
        let deleted = match labelled.is_empty() && named.is_none() {
            true => HashMap::new(),
            false => self.store.newest_versions(DELETED, &query.prefix).await?,
        };
        let is_deleted = |id, since: Version| deleted.get(&id).is_some_and(|&deleted| deleted >= since);
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
            let labels = labels.filter(|value| !is_deleted(id, value.version));
            let labels = labels.map_or_else(Labels::default, |value| value.labels);
            let wanted = labels.contains_all(&query.labels).then_some((id, (located, labels, names)));
            std::future::ready(Ok(wanted))
        });
        Ok(noted.take(most).try_collect().await?)
    }

    /// Documents with names that are asked for: each name with the version of the document that was there then.
    async fn named_documents(
        &self,
        query: &NameFilter,
    ) -> Result<HashMap<DocumentId, Vec<(String, Version)>>, Error> {
        let mut names = self.store.names(Some(&query.namespace)).await?;
        names.retain(|name, _| name.name().starts_with(&query.prefix));
        let registers = stream::iter(names).map(|(name, listed)| async move {
            let register = self.store.listed_name(&name, &listed).await?;
            Ok::<_, StoreError>((name, register))
        });
        let mut registers = registers.buffered(READS_AT_ONCE);
        let mut named = HashMap::<DocumentId, Vec<_>>::new();
        while let Some(read) = registers.next().await {
            match read {
                Ok((name, Some(register))) => {
                    if let Some(value) = register.value {
                        let name = (name.name().to_owned(), value.version);
                        named.entry(value.document).or_default().push(name);
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
        found: LocatedVersion,
    ) -> Result<StoredObject<Manifest>, StoreError> {
        match self.store.read_manifest(id, &found).await {
            // Moved since, or past its time.
            Err(StoreError::Missing { .. }) => self.store.manifest(id).await,
            Ok(manifest) if manifest.value.is_expired(now_unix_ms()) => self.store.manifest(id).await,
            read => read,
        }
    }
}
