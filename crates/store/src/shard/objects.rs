//! Shards' objects: found in whatever generation is sound, or written in a new one.

use bytes::Bytes;

use super::layout::{Family, Name, ObjectKind, ShardNames};
use super::manifest::{Manifest, Place, ShardEntry};
use super::objects::{StoreError, Written};
use super::shard::{self, Digest, ShardCorrections, ShardLatents};
use super::stamp::Stamp;
use super::{Shard, Store, Stored, damaged};

/// A shard's latents as stored, which corrections name by their digest.
#[derive(Clone, Debug)]
pub(crate) struct StoredLatents {
    pub(crate) value: ShardLatents,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

impl Store {
    /// A shard with all that a decoder needs of it, from these objects.
    pub(crate) async fn shard(&self, names: &ShardNames) -> Result<Shard, StoreError> {
        let latents = self.latents(&names.latents).await?;
        let corrections = match &names.corrections {
            Some(name) => Some(self.corrections(name, &latents).await?.value.windows),
            None => None,
        };
        Ok(Shard::new(latents.value, corrections))
    }

    /// A shard's latents.
    pub(crate) async fn latents(&self, name: &Name) -> Result<StoredLatents, StoreError> {
        let (payload, bytes) = self.objects.get(ObjectKind::Latents, name).await?;
        let digest = shard::digest(&payload);
        let value = ShardLatents::decode(payload).map_err(|invalid| damaged(name, &invalid))?;
        Ok(StoredLatents { value, digest, bytes })
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

    /// The newest sound latents of a shard that no sweep is about to remove, with their generation.
    pub(crate) async fn usable_latents(
        &self,
        family: &Family,
    ) -> Result<Option<(Stamp, StoredLatents)>, StoreError> {
        self.newest_usable(family, |name| async move { self.latents(&name).await }).await
    }

    /// The newest sound corrections of these latents that no sweep is about to remove, with their generation.
    pub(crate) async fn usable_corrections(
        &self,
        family: &Family,
        of: &StoredLatents,
    ) -> Result<Option<(Stamp, Stored<ShardCorrections>)>, StoreError> {
        self.newest_usable(family, |name| async move { self.corrections(&name, of).await }).await
    }

    /// Stores a shard's latents in a new generation.
    pub(crate) async fn put_latents(
        &self,
        family: &Family,
        latents: ShardLatents,
    ) -> Result<(Stamp, StoredLatents), StoreError> {
        let payload = latents.encode();
        let (generation, bytes) = self.put_generation(ObjectKind::Latents, family, &payload).await?;
        Ok((generation, StoredLatents { value: latents, digest: shard::digest(&payload), bytes }))
    }

    /// Stores a shard's corrections in a new generation. Returns it with the size of the object.
    pub(crate) async fn put_corrections(
        &self,
        family: &Family,
        corrections: &ShardCorrections,
    ) -> Result<(Stamp, u64), StoreError> {
        self.put_generation(ObjectKind::Corrections, family, &corrections.encode()).await
    }

    async fn put_generation(
        &self,
        kind: ObjectKind,
        family: &Family,
        payload: &Bytes,
    ) -> Result<(Stamp, u64), StoreError> {
        loop {
            let generation = Stamp::after(Stamp::NONE);
            match self.objects.put(kind, &family.at(generation), payload).await? {
                Written::Durably { bytes } => return Ok((generation, bytes)),
                Written::Kept => {}
            }
        }
    }

    /// The newest generation that `read` finds sound and that no condemned list names.
    async fn newest_usable<T, R>(
        &self,
        family: &Family,
        read: impl Fn(Name) -> R,
    ) -> Result<Option<(Stamp, T)>, StoreError>
    where
        R: Future<Output = Result<T, StoreError>>,
    {
        for name in self.objects.generations(family).await?.into_iter().rev() {
            match read(name.clone()).await {
                Ok(_) if self.condemned.names(&name).await? => {}
                Ok(found) => return Ok(Some((name.family().1, found))),
                Err(StoreError::Missing { .. }) => {}
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::warn!(%error, "nothing is built on it");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// A shard of a document whose manifest holds it; `None` where it has objects.
pub(crate) fn inline_shard(manifest: &Manifest, entry: &ShardEntry) -> Option<Result<Shard, StoreError>> {
    let Place::Inline { latents, corrections } = &entry.place else { return None };
    let decoded = || {
        let digest = shard::digest(latents);
        let latents = ShardLatents::decode(latents.clone())?;
        let corrections = corrections.clone();
        let corrections = corrections.map(|payload| ShardCorrections::decode(payload, &latents, digest));
        Ok(Shard::new(latents, corrections.transpose()?.map(|of| of.windows)))
    };
    let name = super::layout::manifest(manifest.id, manifest.version);
    Some(decoded().map_err(|invalid| damaged(&name, &invalid)))
}
