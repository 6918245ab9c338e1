//! What is durable: manifests, latents and corrections. Never a text.
//!
//! [`layout`] names the objects, [`objects`] seals and moves them to a [`backend`], [`manifest`] and [`shard`] are what
//! they hold; this file puts them together.

pub(crate) mod backend;
mod certain;
pub(crate) mod layout;
pub(crate) mod manifest;
pub(crate) mod objects;
pub(crate) mod shard;

use std::collections::BTreeSet;
use std::ops::Range;

use c3_proto::{Corrections, DocumentId, Invalid, LatentGroup, WindowHash};
use futures::{TryStreamExt, pin_mut};

use self::backend::BackendSettings;
use self::layout::{Name, ObjectKind, ShardNames};
use self::manifest::Manifest;
pub(crate) use self::objects::{Existing, StoreError};
use self::objects::{Objects, Written};
use self::shard::{Digest, ShardCorrections, ShardLatents, WindowCorrections};
use crate::error::Error;

/// The durable store.
pub(crate) struct Store {
    objects: Objects,
}

/// Something stored, with the bytes that it takes.
#[derive(Clone, Debug)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    pub(crate) bytes: u64,
}

/// A shard's latents as stored, which corrections name by their digest.
#[derive(Clone, Debug)]
pub(crate) struct StoredLatents {
    pub(crate) value: ShardLatents,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

/// A shard with all that a decoder needs of it.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub(crate) windows: Vec<ShardWindow>,
}

/// A window with all that a decoder needs of it.
#[derive(Clone, Debug)]
pub(crate) struct ShardWindow {
    /// Its bytes in the shard.
    pub(crate) bytes: Range<u32>,
    pub(crate) group: LatentGroup,
    pub(crate) hash: WindowHash,
    /// `None` where nobody verified it.
    pub(crate) corrections: Option<Corrections>,
}

impl Store {
    /// Opens the folder or the store at an address, and proves that it can be written.
    pub(crate) async fn open(backend: impl Into<BackendSettings>) -> Result<Self, Error> {
        Ok(Self { objects: Objects::open(&backend.into()).await? })
    }

    /// A document's manifest.
    pub(crate) async fn manifest(&self, id: DocumentId) -> Result<Stored<Manifest>, StoreError> {
        let name = layout::manifest(id);
        let (payload, bytes) = self.objects.get(ObjectKind::Manifest, &name).await?;
        let value = Manifest::decode(payload).map_err(|invalid| damaged(&name, &invalid))?;
        Ok(Stored { value, bytes })
    }

    /// Makes a document, or switches it to other objects at once. Returns the size of the manifest.
    pub(crate) async fn put_manifest(&self, manifest: &Manifest) -> Result<u64, StoreError> {
        let (name, payload) = (layout::manifest(manifest.id), manifest.encode());
        self.replace(ObjectKind::Manifest, &name, &payload).await
    }

    /// Removes a document. Its shards' objects stay: other documents may share them.
    pub(crate) async fn delete(&self, id: DocumentId) -> Result<(), StoreError> {
        self.objects.delete(&layout::manifest(id)).await
    }

    /// The first `most` documents whose id begins with these digits and comes after `after`, by id.
    pub(crate) async fn documents(
        &self,
        prefix: &str,
        after: Option<DocumentId>,
        most: usize,
    ) -> Result<BTreeSet<DocumentId>, StoreError> {
        let folder = layout::manifests(prefix);
        let offset = after.map_or_else(|| folder.clone(), |id| layout::manifest(id).path().clone());
        let objects = self.objects.list(&folder, &offset);
        pin_mut!(objects);
        let mut first = BTreeSet::new();
        while let Some(object) = objects.try_next().await? {
            let id = layout::document_at(&object.location);
            first.extend(id.filter(|id| id.to_string().starts_with(prefix)));
            if first.len() > most {
                first.pop_last();
            }
        }
        Ok(first)
    }

    /// A shard's latents.
    pub(crate) async fn latents(&self, name: &Name) -> Result<StoredLatents, StoreError> {
        let (payload, bytes) = self.objects.get(ObjectKind::Latents, name).await?;
        let digest = shard::digest(&payload);
        let value = ShardLatents::decode(payload).map_err(|invalid| damaged(name, &invalid))?;
        Ok(StoredLatents { value, digest, bytes })
    }

    /// Stores a shard's latents. Where `existing` ones are kept, those are returned: what is stored is what counts.
    pub(crate) async fn put_latents(
        &self,
        name: &Name,
        latents: ShardLatents,
        existing: Existing,
    ) -> Result<StoredLatents, StoreError> {
        let payload = latents.encode();
        match self.objects.put(ObjectKind::Latents, name, &payload, existing).await? {
            Written::Durably { bytes } => {
                Ok(StoredLatents { value: latents, digest: shard::digest(&payload), bytes })
            }
            Written::Kept => self.latents(name).await,
        }
    }

    /// The corrections of a shard with these latents.
    pub(crate) async fn corrections(
        &self,
        name: &Name,
        of: &StoredLatents,
    ) -> Result<Stored<ShardCorrections>, StoreError> {
        let (payload, bytes) = self.objects.get(ObjectKind::Corrections, name).await?;
        let value = ShardCorrections::decode(payload, &of.value, of.digest);
        Ok(Stored { value: value.map_err(|invalid| damaged(name, &invalid))?, bytes })
    }

    /// Stores a shard's corrections. Returns the size of the object.
    pub(crate) async fn put_corrections(
        &self,
        name: &Name,
        corrections: &ShardCorrections,
    ) -> Result<u64, StoreError> {
        self.replace(ObjectKind::Corrections, name, &corrections.encode()).await
    }

    /// A shard with all that a decoder needs of it.
    pub(crate) async fn shard(&self, names: &ShardNames) -> Result<Shard, StoreError> {
        let latents = self.latents(&names.latents).await?;
        let corrections = match &names.corrections {
            Some(name) => Some(self.corrections(name, &latents).await?.value.windows),
            None => None,
        };
        Ok(Shard::new(latents.value, corrections))
    }

    async fn replace(&self, kind: ObjectKind, name: &Name, payload: &[u8]) -> Result<u64, StoreError> {
        match self.objects.put(kind, name, payload, Existing::Replace).await? {
            Written::Durably { bytes } => Ok(bytes),
            Written::Kept => Err(StoreError::damaged(name, "the store did not replace it")),
        }
    }
}

impl Shard {
    /// Latents with their corrections, where there are any.
    pub(crate) fn new(latents: ShardLatents, corrections: Option<Vec<WindowCorrections>>) -> Self {
        let mut corrections = corrections.map(Vec::into_iter);
        let windows = latents.windows.into_iter().map(|window| ShardWindow {
            bytes: window.bytes,
            group: window.group,
            hash: window.hash,
            corrections: corrections.as_mut().and_then(Iterator::next).map(|of| of.corrections),
        });
        Self { windows: windows.collect() }
    }

    /// Bytes of memory that it takes, near enough.
    pub(crate) fn weight(&self) -> usize {
        let of = |window: &ShardWindow| {
            let corrections = window.corrections.as_ref().map_or(0, |of| size_of_val(of.as_slice()));
            size_of::<ShardWindow>() + window.group.data().len() + corrections
        };
        self.windows.iter().map(of).sum()
    }
}

fn damaged(name: &Name, invalid: &Invalid) -> StoreError {
    StoreError::damaged(name, invalid.to_string())
}

#[cfg(test)]
mod tests {
    use c3_proto::{Fingerprint, LatentCodec, ShardHash};

    use super::layout::{CorrectionSettings, LatentSettings};
    use super::*;

    async fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).await.unwrap();
        (folder, store)
    }

    fn names() -> ShardNames {
        let latents =
            LatentSettings { compressor: Fingerprint::of(b"c"), ratio: 20, codec: LatentCodec::Q4_0 };
        let arithmetic = "f32".to_owned();
        let corrections = CorrectionSettings { decoder: Fingerprint::of(b"d"), arithmetic, margin: 2.0 };
        ShardNames::new(ShardHash::of(b"shard"), &latents, Some(&corrections), None)
    }

    #[tokio::test]
    async fn a_flipped_bit_in_any_file_is_damage() {
        let (folder, store) = store().await;
        let (names, latents) = (names(), shard::tests::shard(&[40, 7]));
        let corrections_name = names.corrections.clone().unwrap();
        store.put_latents(&names.latents, latents.clone(), Existing::Keep).await.unwrap();
        store.put_corrections(&corrections_name, &shard::tests::corrections(&latents)).await.unwrap();
        let manifest = manifest::tests::manifest(&[vec![120, 21]], true);
        store.put_manifest(&manifest).await.unwrap();
        assert_eq!(store.manifest(manifest.id).await.unwrap().value, manifest);
        assert_eq!(store.shard(&names).await.unwrap().windows.len(), 2);

        for name in [&names.latents, &corrections_name, &layout::manifest(manifest.id)] {
            let path = folder.path().join(name.path().as_ref());
            let intact = std::fs::read(&path).unwrap();
            for byte in 0..intact.len() {
                let mut flipped = intact.clone();
                flipped[byte] ^= 1 << (byte % 8);
                std::fs::write(&path, flipped).unwrap();
                let read = match *name == layout::manifest(manifest.id) {
                    true => store.manifest(manifest.id).await.map(drop),
                    false => store.shard(&names).await.map(drop),
                };
                let error = read.expect_err("a flipped bit must be found");
                let StoreError::Damaged { object, .. } = error else { panic!("{error}") };
                assert_eq!(object, name.to_string());
            }
            std::fs::write(&path, intact).unwrap();
        }
    }

    #[tokio::test]
    async fn the_first_latents_stay_unless_they_are_to_be_replaced() {
        let (_folder, store) = store().await;
        let (name, first, second) = (names().latents, shard::tests::shard(&[40]), shard::tests::shard(&[41]));
        store.put_latents(&name, first.clone(), Existing::Keep).await.unwrap();
        let kept = store.put_latents(&name, second.clone(), Existing::Keep).await.unwrap();
        assert_eq!(kept.value, first);
        let replaced = store.put_latents(&name, second.clone(), Existing::Replace).await.unwrap();
        assert_eq!((&replaced.value, replaced.digest), (&second, shard::digest(&second.encode())));
        assert_eq!(store.latents(&name).await.unwrap().value, second);
    }

    #[tokio::test]
    async fn documents_are_listed_by_id_and_prefix() {
        let (_folder, store) = store().await;
        assert!(store.documents("", None, 10).await.unwrap().is_empty());
        let mut ids = BTreeSet::new();
        for number in 0..20u8 {
            let mut manifest = manifest::tests::manifest(&[], false);
            manifest.id = DocumentId::of(&[number]);
            ids.insert(manifest.id);
            store.put_manifest(&manifest).await.unwrap();
        }
        let ids: Vec<DocumentId> = ids.into_iter().collect();
        let page = |prefix: String, after, most| {
            let store = &store;
            async move { Vec::from_iter(store.documents(&prefix, after, most).await.unwrap()) }
        };
        assert_eq!(page(String::new(), None, 7).await, ids[..7]);
        assert_eq!(page(String::new(), Some(ids[6]), 7).await, ids[7..14]);
        assert_eq!(page(String::new(), Some(ids[19]), 7).await, []);
        assert_eq!(page(ids[3].to_string(), None, 7).await, [ids[3]]);
        assert_eq!(page(ids[3].to_string()[..5].to_owned(), None, 7).await, [ids[3]]);
        store.delete(ids[3]).await.unwrap();
        assert_eq!(page(ids[3].to_string(), None, 7).await, []);
    }
}
