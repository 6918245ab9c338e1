//! What documents, and puts that are under way, refer to: every manifest is read, wherever it lies.

use std::collections::HashSet;

use c3_types::DocumentId;
use futures::{StreamExt, stream};

use crate::manifest::Manifest;
use crate::object::CONCURRENT_REQUESTS;
use crate::object::key::ObjectKey;
use crate::object::version::{Version, now_unix_ms};
use crate::{Error, Store};

/// Half of the hash of a name: a store of millions of objects has as many.
type NameDigest = [u8; 16];

/// What documents refer to.
#[derive(Default)]
pub struct LiveObjects {
    referenced: HashSet<NameDigest>,
    /// Documents that count and are past their time.
    pub expired: Vec<(DocumentId, Version)>,
    /// ManifestCache that cannot be read, so that what they refer to is unknown.
    pub unreadable: u64,
}

impl LiveObjects {
    /// Whether a document, or a put that is under way, refers to the object.
    pub fn refers_to(&self, name: &ObjectKey) -> bool {
        self.referenced.contains(&digest(name))
    }

    fn refer(&mut self, manifest: &Manifest) {
        let names = Vec::from_iter(manifest.shards.iter().filter_map(|shard| manifest.names(shard)));
        self.referenced.extend(names.iter().flat_map(|names| names.all()).map(digest));
    }
}

fn digest(name: &ObjectKey) -> NameDigest {
    let hash = blake3::hash(name.to_string().as_bytes());
    std::array::from_fn(|i| hash.as_bytes()[i])
}

impl Store {
    /// Reads every manifest that counts, and what is recorded of puts that are under way.
    pub async fn mark(&self) -> Result<LiveObjects, Error> {
        let mut marked = LiveObjects::default();
        // Before the manifests: a put that ends meanwhile is seen as what it was or as what it became.
        for upload in self.uploads().await? {
            marked.refer(&upload.so_far);
        }
        // What is known of a pack that was damaged need not be all.
        let inventory = self.inventory().await?;
        let packs = self.packs.known();
        marked.unreadable += packs.iter().filter(|pack| pack.damage.is_some()).count() as u64;
        let highest = inventory.highest();
        let counting = inventory.copies.iter().filter(|copy| inventory.counts(copy, &highest));
        let reads = Vec::from_iter(counting.map(|copy| async move {
            let read = match self.read_manifest(copy.id, &copy.found).await {
                // Moved since: wherever it is, it is the newest there.
                Err(Error::Missing { .. }) => self.manifest(copy.id).await,
                read => read,
            };
            (copy, read)
        }));
        let mut reads = stream::iter(reads).buffer_unordered(CONCURRENT_REQUESTS);
        let now = now_unix_ms();
        while let Some((copy, read)) = reads.next().await {
            match read {
                Ok(found) if found.value.is_expired(now) => {
                    marked.expired.push((copy.id, copy.found.version));
                }
                Ok(found) => marked.refer(&found.value),
                Err(Error::Missing { .. }) => {}
                Err(error @ Error::Damaged { .. }) => {
                    tracing::warn!(%error, "what it refers to is unknown: `c3 fsck` tells what to do");
                    marked.unreadable += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(marked)
    }
}
