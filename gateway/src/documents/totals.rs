//! Totals over all documents.

use c3_store::document_list::IdRange;
use c3_store::object::key::DELETED;
use c3_store::{Error as StoreError, References};
use c3_types::Totals;
use futures::{StreamExt, stream};

use super::list::READS_IN_FLIGHT;
use crate::error::Error;
use crate::state::Gateway;

impl Gateway {
    /// Returns totals over all documents and all objects. Reads every manifest and every name.
    pub(crate) async fn totals(&self) -> Result<Totals, Error> {
        let (mut totals, mut references) = (Totals::default(), References::default());
        // A name is written only after its document is stored. Names are listed before documents, so that the document
        // of every listed name is in the list of documents unless it was deleted.
        let names = self.store.names(None).await?;
        let documents = self.store.documents("", None, usize::MAX).await?;
        let deleted = self.store.newest_versions(DELETED, IdRange::all()).await?;
        let names =
            stream::iter(names).map(|(name, listed)| async move { self.store.listed_name(&name, &listed).await });
        let mut names = names.buffer_unordered(READS_IN_FLIGHT);
        while let Some(read) = names.next().await {
            let value = match read {
                Ok(register) => register.and_then(|register| register.value),
                Err(StoreError::Damaged { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            let is_live = value.is_some_and(|value| {
                let is_deleted = deleted.get(&value.document).is_some_and(|&deleted| deleted >= value.version);
                documents.contains_key(&value.document) && !is_deleted
            });
            totals.names += u64::from(is_live);
        }
        let reads = stream::iter(documents).map(|(id, located)| self.listed(id, located));
        let mut reads = reads.buffer_unordered(READS_IN_FLIGHT);
        while let Some(read) = reads.next().await {
            match read {
                Ok(found) => {
                    references.add(&found.value);
                    let document = found.value.document(found.bytes);
                    totals.documents += 1;
                    totals.bytes += document.bytes;
                    totals.tokens += document.tokens;
                    totals.latents += document.latents;
                    totals.shards += document.shards;
                    totals.windows += document.windows;
                }
                // The document expired, or was deleted after it was listed.
                Err(StoreError::Missing { .. }) => {}
                Err(StoreError::Damaged { .. }) => totals.damaged += 1,
                Err(error) => return Err(error.into()),
            }
        }
        let usage = self.store.usage(&references).await?;
        self.metrics.store.size(usage.all);
        Ok(Totals {
            objects: usage.all.objects,
            stored_bytes: usage.all.bytes,
            uploads: usage.uploads,
            upload_objects: usage.of_uploads.objects,
            upload_bytes: usage.of_uploads.bytes,
            unused_objects: usage.unused.objects,
            unused_bytes: usage.unused.bytes,
            ..totals
        })
    }
}
