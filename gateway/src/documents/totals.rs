//! Totals: what all documents come to.

use c3_proto::pb;
use futures::{StreamExt, stream};

use crate::error::Failure;
use crate::gateway::Gateway;
use crate::list::READS_AT_ONCE;
use crate::store::StoreError;
use crate::store::layout::DELETED;

impl Gateway {
    /// What all documents come to. Reads every manifest and every name.
    pub(crate) async fn totals(&self) -> Result<pb::TotalsResponse, Failure> {
        let (objects, stored_bytes) = self.store.size().await?;
        let mut totals = pb::TotalsResponse { objects, stored_bytes, ..Default::default() };
        // What tells of a document was written after it, so it is listed before.
        let names = self.store.names(None).await?;
        let documents = self.store.documents("", None, usize::MAX).await?;
        let deleted = self.store.newest_below(DELETED, "").await?;
        let names = stream::iter(names)
            .map(|(name, listed)| async move { self.store.listed_name(&name, &listed).await });
        let mut names = names.buffer_unordered(READS_AT_ONCE);
        while let Some(read) = names.next().await {
            let state = match read {
                Ok(cell) => cell.and_then(|cell| cell.state),
                Err(StoreError::Damaged { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            let stands = state.is_some_and(|state| {
                let buried = deleted.get(&state.document).is_some_and(|&deleted| deleted >= state.version);
                documents.contains_key(&state.document) && !buried
            });
            totals.names += u64::from(stands);
        }
        let reads = stream::iter(documents).map(|(id, located)| self.listed(id, located));
        let mut reads = reads.buffer_unordered(READS_AT_ONCE);
        while let Some(read) = reads.next().await {
            match read {
                Ok(found) => {
                    let document = found.value.document(found.bytes);
                    totals.documents += 1;
                    totals.bytes += document.bytes;
                    totals.tokens += document.tokens;
                    totals.latents += document.latents;
                    totals.shards += document.shards;
                    totals.windows += document.windows;
                }
                // Deleted since, or past its time.
                Err(StoreError::Missing { .. }) => {}
                Err(StoreError::Damaged { .. }) => totals.damaged += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(totals)
    }
}
