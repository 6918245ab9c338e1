//! Space in the store, divided into the objects of documents, the objects of unfinished uploads, and the rest.

use std::collections::HashSet;

use futures::{TryStreamExt, pin_mut};
use object_store::path::Path;

use crate::manifest::Manifest;
use crate::object::Size;
use crate::object::key::{
    CORRECTIONS, DELETED, DOCUMENTS, LABELS, LATENTS, NAMES, ObjectKey, PACKS, PENDING_DELETES, SEARCH, UPLOADS,
};
use crate::{Error, Store};

/// First half of the BLAKE3 hash of a key. A store may have millions of keys, and this takes less memory than a key.
type KeyDigest = [u8; 16];

/// Set of the latents and corrections objects to which manifests refer.
#[derive(Default)]
pub struct References(HashSet<KeyDigest>);

/// Space in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All objects.
    pub all: Size,
    /// Number of uploads that can be resumed.
    pub uploads: u64,
    /// Records of uploads, including expired ones, and the latents and corrections to which only unexpired uploads
    /// refer.
    pub of_uploads: Size,
    /// Latents and corrections to which nothing refers, tombstones, and the pending-delete lists of garbage collection.
    pub unused: Size,
}

impl References {
    /// Adds the objects of a manifest.
    pub fn add(&mut self, manifest: &Manifest) {
        self.0.extend(manifest.object_keys().map(|key| digest(&key)));
    }

    /// Returns whether a manifest refers to the object.
    pub(crate) fn contains(&self, key: &ObjectKey) -> bool {
        self.0.contains(&digest(key))
    }
}

impl Store {
    /// Measures the space in the store. `documents` must contain the references of all documents. Lists the whole
    /// store.
    pub async fn usage(&self, documents: &References) -> Result<Usage, Error> {
        let (mut usage, mut uploads) = (Usage::default(), References::default());
        for session in self.uploads().await? {
            usage.uploads += 1;
            uploads.add(&session.manifest);
        }
        let root = Path::default();
        let objects = self.objects.list(&root);
        pin_mut!(objects);
        while let Some(object) = objects.try_next().await? {
            let key = ObjectKey::from_path(object.location);
            let part = match key.root_folder() {
                LATENTS | CORRECTIONS if documents.contains(&key) => None,
                LATENTS | CORRECTIONS if uploads.contains(&key) => Some(&mut usage.of_uploads),
                UPLOADS => Some(&mut usage.of_uploads),
                LATENTS | CORRECTIONS | DELETED | PENDING_DELETES => Some(&mut usage.unused),
                DOCUMENTS | PACKS | NAMES | LABELS | SEARCH => None,
                // Not an object of the store.
                _ => continue,
            };
            part.into_iter().chain([&mut usage.all]).for_each(|part| part.add(object.size));
        }
        Ok(usage)
    }
}

fn digest(key: &ObjectKey) -> KeyDigest {
    let hash = blake3::hash(key.to_string().as_bytes());
    std::array::from_fn(|i| hash.as_bytes()[i])
}
