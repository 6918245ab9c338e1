//! Mark phase: reads all current manifests and upload sessions, and collects the keys of objects that they refer to.

use std::collections::HashSet;

use c3_types::DocumentId;
use futures::{StreamExt, stream};

use crate::manifest::Manifest;
use crate::object::CONCURRENT_REQUESTS;
use crate::object::key::ObjectKey;
use crate::object::version::{Version, now_unix_ms};
use crate::{Error, Store};

/// Half of the BLAKE3 hash of a key. It saves memory, since a store may have millions of keys.
type KeyDigest = [u8; 16];

/// Result of the mark phase.
#[derive(Default)]
pub(crate) struct LiveObjects {
    referenced: HashSet<KeyDigest>,
    /// Current versions of expired documents.
    pub(crate) expired: Vec<(DocumentId, Version)>,
    /// Number of damaged manifests and packs. They may refer to any object.
    pub(crate) unreadable: u64,
}

impl LiveObjects {
    /// Returns whether a document or an upload session refers to the object.
    pub(crate) fn contains(&self, key: &ObjectKey) -> bool {
        self.referenced.contains(&digest(key))
    }

    fn add(&mut self, manifest: &Manifest) {
        self.referenced.extend(manifest.object_keys().map(|key| digest(&key)));
    }
}

fn digest(key: &ObjectKey) -> KeyDigest {
    let hash = blake3::hash(key.to_string().as_bytes());
    std::array::from_fn(|i| hash.as_bytes()[i])
}

impl Store {
    /// Reads every upload session and every current manifest. Expired ones protect no objects.
    pub(crate) async fn mark(&self) -> Result<LiveObjects, Error> {
        let mut live = LiveObjects::default();
        // Lists sessions before manifests. A put stores its manifest, then deletes its session, so one is found.
        for session in self.uploads().await? {
            live.add(&session.manifest);
        }
        let inventory = self.inventory().await?;
        // A damaged pack may have more records than were found.
        live.unreadable += self.packs.all().iter().filter(|pack| pack.damage.is_some()).count() as u64;
        let newest = inventory.newest();
        let current = inventory.copies.iter().filter(|copy| inventory.is_current(copy, &newest));
        let reads = Vec::from_iter(current.map(|copy| async move {
            let read = match self.read_manifest(copy.id, &copy.located).await {
                // The copy was moved after the inventory was listed.
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
                Ok(manifest) => live.add(&manifest.value),
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
