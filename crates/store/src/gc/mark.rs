//! What documents, and puts that are under way, refer to: every manifest is read, wherever it lies.

use std::collections::{HashMap, HashSet};

use c3_proto::DocumentId;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::Store;
use super::documents::{At, Located};
use super::layout::{self, DELETED, DOCUMENTS, Name};
use super::manifest::Manifest;
use super::objects::StoreError;
use super::stamp::{Stamp, now_unix_ms};

/// Manifests that are read, or objects that are looked for, side by side.
pub(crate) const AT_ONCE: usize = 16;

/// Half of the hash of a name: a store of millions of objects has as many.
type NameDigest = [u8; 16];

/// A manifest that is there.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    pub(crate) id: DocumentId,
    pub(crate) found: Located,
    /// When an object by itself was written.
    pub(crate) object: Option<ObjectMeta>,
}

/// What documents refer to.
#[derive(Default)]
pub(crate) struct Marked {
    referenced: HashSet<NameDigest>,
    /// Documents that count and are past their time.
    pub(crate) expired: Vec<(DocumentId, Stamp)>,
    /// Manifests that cannot be read, so that what they refer to is unknown.
    pub(crate) unreadable: u64,
}

impl Marked {
    /// Whether a document, or a put that is under way, refers to the object.
    pub(crate) fn refers_to(&self, name: &Name) -> bool {
        self.referenced.contains(&digest(name))
    }

    fn refer(&mut self, manifest: &Manifest) {
        let names = Vec::from_iter(manifest.shards.iter().filter_map(|shard| manifest.names(shard)));
        self.referenced.extend(names.iter().flat_map(|names| names.all()).map(digest));
    }
}

fn digest(name: &Name) -> NameDigest {
    let hash = blake3::hash(name.to_string().as_bytes());
    std::array::from_fn(|i| hash.as_bytes()[i])
}

/// All that is there of documents.
pub(crate) struct Census {
    /// Every copy of every version, by document and version.
    pub(crate) copies: Vec<Copy>,
    /// The highest tombstone of a document.
    pub(crate) deleted: HashMap<DocumentId, Stamp>,
}

impl Census {
    /// The copies of a document.
    pub(crate) fn of(&self, id: DocumentId) -> impl Iterator<Item = &Copy> {
        let first = self.copies.partition_point(|copy| copy.id < id);
        self.copies[first..].iter().take_while(move |copy| copy.id == id)
    }

    /// The highest version of each document, whether or not it is deleted.
    pub(crate) fn highest(&self) -> HashMap<DocumentId, Stamp> {
        // Sorted by version: the last stays.
        self.copies.iter().map(|copy| (copy.id, copy.found.version)).collect()
    }

    /// Whether this version counts among `highest`.
    pub(crate) fn counts(&self, copy: &Copy, highest: &HashMap<DocumentId, Stamp>) -> bool {
        let version = copy.found.version;
        highest.get(&copy.id) == Some(&version)
            && self.deleted.get(&copy.id).is_none_or(|&deleted| deleted < version)
    }
}

impl Store {
    /// Finds all that is there of documents. Objects come before packs, so that what is moved meanwhile is found.
    pub(crate) async fn census(&self) -> Result<Census, StoreError> {
        let folder = Path::from(DOCUMENTS);
        let objects: Vec<_> = self.objects.list(&folder, &folder).try_collect().await?;
        self.packs.refresh().await?;
        let deleted = self.newest_below(DELETED, "").await?;
        let mut copies = Vec::from_iter(objects.into_iter().filter_map(|object| {
            let (id, version) = layout::document_at(&object.location)?;
            Some(Copy { id, found: Located { version, at: At::Object }, object: Some(object) })
        }));
        for pack in self.packs.known() {
            copies.extend(pack.entries.iter().map(|entry| {
                let at = At::Pack { pack: pack.name.clone(), range: entry.range.clone() };
                Copy { id: entry.id, found: Located { version: entry.version, at }, object: None }
            }));
        }
        copies.sort_by_key(|copy| (copy.id, copy.found.version));
        Ok(Census { copies, deleted })
    }

    /// Reads every manifest that counts, and what is recorded of puts that are under way.
    pub(crate) async fn mark(&self) -> Result<Marked, StoreError> {
        let mut marked = Marked::default();
        // Before the manifests: a put that ends meanwhile is seen as what it was or as what it became.
        for upload in self.uploads().await? {
            marked.refer(&upload.so_far);
        }
        // What is known of a pack that was damaged need not be all.
        let census = self.census().await?;
        let packs = self.packs.known();
        marked.unreadable += packs.iter().filter(|pack| pack.damage.is_some()).count() as u64;
        let highest = census.highest();
        let counting = census.copies.iter().filter(|copy| census.counts(copy, &highest));
        let reads = Vec::from_iter(counting.map(|copy| async move {
            let read = match self.read_manifest(copy.id, &copy.found).await {
                // Moved since: wherever it is, it is the newest there.
                Err(StoreError::Missing { .. }) => self.manifest(copy.id).await,
                read => read,
            };
            (copy, read)
        }));
        let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
        let now = now_unix_ms();
        while let Some((copy, read)) = reads.next().await {
            match read {
                Ok(found) if found.value.is_expired(now) => {
                    marked.expired.push((copy.id, copy.found.version));
                }
                Ok(found) => marked.refer(&found.value),
                Err(StoreError::Missing { .. }) => {}
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::warn!(%error, "what it refers to is unknown: `c3 fsck` tells what to do");
                    marked.unreadable += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(marked)
    }
}
