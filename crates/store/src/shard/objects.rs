//! Shards' objects: found in whatever generation is sound, or written in a new one.

use bytes::Bytes;

use crate::Error;
use crate::object::PutOutcome;
use crate::object::key::{KeyPrefix, ObjectKey, ObjectKind, ShardKeys};
use crate::object::version::Version;
use crate::shard::{self, Digest, ShardCorrections, ShardLatents};
use crate::{Shard, Store, Stored};

/// A shard's latents as stored, which corrections name by their digest.
#[derive(Clone, Debug)]
pub struct StoredLatents {
    pub value: ShardLatents,
    pub digest: Digest,
    pub bytes: u64,
}

impl Store {
    /// A shard with all that a decoder needs of it, from these objects.
    pub async fn shard(&self, names: &ShardKeys) -> Result<Shard, Error> {
        let latents = self.latents(&names.latents).await?;
        let corrections = match &names.corrections {
            Some(name) => Some(self.corrections(name, &latents).await?.value.windows),
            None => None,
        };
        Ok(Shard::new(latents.value, corrections))
    }

    /// A shard's latents.
    pub async fn latents(&self, name: &ObjectKey) -> Result<StoredLatents, Error> {
        let (payload, bytes) = self.objects.get(ObjectKind::Latents, name).await?;
        let digest = shard::digest(&payload);
        let value = ShardLatents::decode(payload).map_err(|invalid| Error::invalid(name, &invalid))?;
        Ok(StoredLatents { value, digest, bytes })
    }

    /// The corrections of a shard with these latents.
    pub async fn corrections(
        &self,
        name: &ObjectKey,
        of: &StoredLatents,
    ) -> Result<Stored<ShardCorrections>, Error> {
        let (payload, bytes) = self.objects.get(ObjectKind::Corrections, name).await?;
        let value = ShardCorrections::decode(payload, &of.value, of.digest);
        Ok(Stored { value: value.map_err(|invalid| Error::invalid(name, &invalid))?, bytes })
    }

    /// The newest sound latents of a shard that no sweep is about to remove, with their generation.
    pub async fn usable_latents(
        &self,
        family: &KeyPrefix,
    ) -> Result<Option<(Version, StoredLatents)>, Error> {
        self.newest_usable(family, |name| async move { self.latents(&name).await }).await
    }

    /// The newest sound corrections of these latents that no sweep is about to remove, with their generation.
    pub async fn usable_corrections(
        &self,
        family: &KeyPrefix,
        of: &StoredLatents,
    ) -> Result<Option<(Version, Stored<ShardCorrections>)>, Error> {
        self.newest_usable(family, |name| async move { self.corrections(&name, of).await }).await
    }

    /// Stores a shard's latents in a new generation.
    pub async fn put_latents(
        &self,
        family: &KeyPrefix,
        latents: ShardLatents,
    ) -> Result<(Version, StoredLatents), Error> {
        let payload = latents.encode();
        let (generation, bytes) = self.put_generation(ObjectKind::Latents, family, &payload).await?;
        Ok((generation, StoredLatents { value: latents, digest: shard::digest(&payload), bytes }))
    }

    /// Stores a shard's corrections in a new generation. Returns it with the size of the object.
    pub async fn put_corrections(
        &self,
        family: &KeyPrefix,
        corrections: &ShardCorrections,
    ) -> Result<(Version, u64), Error> {
        self.put_generation(ObjectKind::Corrections, family, &corrections.encode()).await
    }

    async fn put_generation(
        &self,
        kind: ObjectKind,
        family: &KeyPrefix,
        payload: &Bytes,
    ) -> Result<(Version, u64), Error> {
        loop {
            let generation = Version::after(Version::NONE);
            match self.objects.put(kind, &family.at(generation), payload).await? {
                PutOutcome::Created { bytes } => return Ok((generation, bytes)),
                PutOutcome::AlreadyExists => {}
            }
        }
    }

    /// The newest generation that `read` finds sound and that no condemned list names.
    async fn newest_usable<T, R>(
        &self,
        family: &KeyPrefix,
        read: impl Fn(ObjectKey) -> R,
    ) -> Result<Option<(Version, T)>, Error>
    where
        R: Future<Output = Result<T, Error>>,
    {
        for name in self.objects.generations(family).await?.into_iter().rev() {
            match read(name.clone()).await {
                Ok(_) if self.pending_deletes.names(&name).await? => {}
                Ok(found) => return Ok(Some((name.split_version().1, found))),
                Err(Error::Missing { .. }) => {}
                Err(error @ Error::Damaged { .. }) => {
                    tracing::warn!(%error, "nothing is built on it");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
