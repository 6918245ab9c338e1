//! Operations on stored documents that neither write nor read text.

pub(crate) mod list;
pub(crate) mod maintenance;
pub(crate) mod names;
mod totals;

use std::sync::Arc;

use c3_store::cache::{ResolvedManifest, ShardLocation};
use c3_store::manifest::Manifest;
use c3_store::{Error as StoreError, Shard};
use c3_types::{Document, DocumentId, DocumentRef, IdPrefix, Labels};

use crate::error::Error;
use crate::state::Gateway;

/// Maximum number of ids in the error for an ambiguous id prefix.
const CANDIDATES_MAX: usize = 10;

impl Gateway {
    /// Returns the manifest of a document. `reference` is an id, a unique prefix of an id, or a name.
    pub(crate) async fn find(&self, reference: &str) -> Result<Arc<ResolvedManifest>, Error> {
        match reference.parse()? {
            DocumentRef::Id(prefix) => self.manifest(self.resolve_prefix(&prefix).await?).await,
            DocumentRef::Name(name) => {
                let id = self.resolve_name(&name).await?;
                self.manifest(id).await.map_err(|error| match error {
                    Error::NotFound(_) => Error::NamedDocumentDeleted { name, id },
                    error => error,
                })
            }
        }
    }

    /// Returns the manifest of a document.
    pub(crate) async fn manifest(&self, id: DocumentId) -> Result<Arc<ResolvedManifest>, Error> {
        self.manifests.get(id, &self.store).await.map_err(|error| match error {
            StoreError::Missing { .. } => Error::NotFound(id.to_string()),
            error => Error::of_document(id, "its manifest", &error),
        })
    }

    /// Returns the shard at `index` in a document: from the manifest if inline, else from the cache or the store.
    pub(crate) async fn shard(&self, manifest: &ResolvedManifest, index: usize) -> Result<Arc<Shard>, StoreError> {
        match manifest.location(index)? {
            ShardLocation::Inline(shard) => Ok(Arc::clone(shard)),
            ShardLocation::Objects(keys) => self.cache.get(keys, &self.store).await,
        }
    }

    /// Converts a store error about `part` of a version of a document. If an object is missing and the version is not
    /// current any more, returns [`Error::Changed`], or [`Error::NotFound`] if the document was deleted or has expired.
    pub(crate) async fn shard_error(&self, version: &Manifest, part: &str, error: &StoreError) -> Error {
        if matches!(error, StoreError::Missing { .. }) {
            match self.manifest(version.id).await {
                Ok(current) if current.value.version == version.version => {}
                Ok(_) => return Error::Changed(version.id),
                Err(error) => return error,
            }
        }
        Error::of_document(version.id, part, error)
    }

    /// Returns a document with its labels, and the token of the labels; `None` if there are no labels.
    pub(crate) async fn stat(&self, reference: &str) -> Result<(Document, Option<String>), Error> {
        let found = self.find(reference).await?;
        let register = self.store.labels(found.value.id).await?;
        let token = register.as_ref().map(|register| register.token());
        let value = register.and_then(|register| register.value);
        let labels = value.map_or_else(Labels::default, |value| value.labels);
        Ok((Document { labels, ..found.value.document(found.bytes) }, token))
    }

    /// Deletes a document and returns its id. Latents and corrections, which other documents may share, stay until
    /// garbage collection finds them unreferenced.
    pub(crate) async fn delete(&self, reference: &str) -> Result<DocumentId, Error> {
        let id = match reference.parse()? {
            DocumentRef::Id(prefix) => self.resolve_prefix(&prefix).await?,
            DocumentRef::Name(name) => self.resolve_name(&name).await?,
        };
        match self.store.delete(id).await {
            Ok(()) => {
                self.search.remove(id).await;
                Ok(id)
            }
            Err(StoreError::Missing { .. }) => Err(Error::NotFound(id.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    async fn resolve_prefix(&self, prefix: &IdPrefix) -> Result<DocumentId, Error> {
        if let Some(id) = prefix.full_id() {
            return Ok(id);
        }
        let ids = self.store.documents(prefix.as_str(), None, CANDIDATES_MAX + 1).await?;
        let mut candidates = ids.keys();
        match (candidates.next(), ids.len()) {
            (None, _) => Err(Error::NotFound(prefix.as_str().to_owned())),
            (Some(&id), 1) => Ok(id),
            (Some(_), count) => {
                let candidates = ids.keys().take(CANDIDATES_MAX).map(ToString::to_string).collect();
                let (prefix, complete) = (prefix.as_str().to_owned(), count <= CANDIDATES_MAX);
                Err(Error::AmbiguousPrefix { prefix, candidates, complete })
            }
        }
    }
}
