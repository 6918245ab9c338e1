//! Mark phase: reads all current manifests and all upload sessions (records of unfinished puts), and collects the keys
//! of the objects to which they refer.

use c3_types::DocumentId;
use futures::{StreamExt, stream};

use crate::object::CONCURRENT_REQUESTS;
use crate::object::key::ObjectKey;
use crate::object::version::{Version, now_unix_ms};
use crate::usage::References;
use crate::{Error, Store};

/// Result of the mark phase.
#[derive(Default)]
pub(crate) struct LiveObjects {
    references: References,
    /// Current versions of expired documents.
    pub(crate) expired: Vec<(DocumentId, Version)>,
    /// Number of damaged manifests and packs. They may refer to any object.
    pub(crate) unreadable: u64,
}

impl LiveObjects {
    /// Returns whether a document or an upload session refers to the object.
    pub(crate) fn contains(&self, key: &ObjectKey) -> bool {
        self.references.contains(key)
    }
}

impl Store {
    /// Reads every upload session and every current manifest. Expired sessions and documents protect no objects.
    pub(crate) async fn mark(&self) -> Result<LiveObjects, Error> {
        let mut live = LiveObjects::default();
        // Sessions are listed before manifests. A put stores its manifest before it deletes its session, so at least
        // one of the two is found.
        for session in self.uploads().await? {
            live.references.add(&session.manifest);
        }
        let inventory = self.inventory().await?;
        // A damaged pack may contain records that were not found.
        live.unreadable += self.packs.all().iter().filter(|pack| pack.damage.is_some()).count() as u64;
        let newest = inventory.newest();
        let current = inventory.copies.iter().filter(|copy| inventory.is_current(copy, &newest));
        let reads = Vec::from_iter(current.map(|copy| async move {
            let read = match self.read_manifest(copy.id, &copy.located).await {
                // The copy was moved or deleted after the inventory was listed.
                Err(Error::Missing { .. }) => self.manifest(copy.id).await,
                read => read,
            };
            (copy, read)
        }));
        let mut reads = stream::iter(reads).buffer_unordered(CONCURRENT_REQUESTS);
        let now = now_unix_ms();
        while let Some((copy, read)) = reads.next().await {
            match read {
                Ok(manifest) if manifest.value.is_expired(now) => {
                    live.expired.push((copy.id, copy.located.version));
                }
                Ok(manifest) => live.references.add(&manifest.value),
                Err(Error::Missing { .. }) => {}
                Err(error @ Error::Damaged { .. }) => {
                    tracing::warn!(%error, "a manifest cannot be read, so no shard is removed: run `c3 fsck`");
                    live.unreadable += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(live)
    }
}
