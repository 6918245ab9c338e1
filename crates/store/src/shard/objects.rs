//! Reads and writes of latents and corrections objects.

use bytes::Bytes;

use crate::object::key::{KeyPrefix, ObjectKey, ShardKeys};
use crate::object::version::Version;
use crate::object::{PutOutcome, Space};
use crate::shard::{self, Digest, Encoded, ShardCorrections, ShardLatents};
use crate::{Error, Shard, Store};

/// A stored latents object.
#[derive(Clone, Debug)]
pub struct StoredLatents {
    /// Version in the object's key.
    pub version: Version,
    /// The latents.
    pub value: ShardLatents,
    /// Digest of the payload. Corrections contain it to name the latents to which they belong.
    pub digest: Digest,
    /// Size of the object in bytes, including the envelope.
    pub bytes: u64,
}

/// A stored corrections object.
#[derive(Clone, Debug)]
pub struct StoredCorrections {
    /// Version in the object's key.
    pub version: Version,
    /// The corrections.
    pub value: ShardCorrections,
    /// Size of the object in bytes, including the envelope.
    pub bytes: u64,
}

impl Store {
    /// Reads the objects of a shard, and checks that its corrections belong to its latents.
    pub async fn shard(&self, keys: &ShardKeys) -> Result<Shard, Error> {
        let (latents, corrections) = self.shard_objects(keys).await?;
        Ok(Shard::new(latents.value, corrections.map(|corrections| corrections.value.windows)))
    }

    /// Reads the latents and the corrections of a shard, as [`Self::shard`] does.
    pub(crate) async fn shard_objects(
        &self,
        keys: &ShardKeys,
    ) -> Result<(StoredLatents, Option<StoredCorrections>), Error> {
        let latents = self.latents(&keys.latents).await?;
        let corrections = match &keys.corrections {
            Some(key) => Some(self.corrections(key, &latents).await?),
            None => None,
        };
        Ok((latents, corrections))
    }

    async fn latents(&self, key: &ObjectKey) -> Result<StoredLatents, Error> {
        let (payload, bytes) = self.objects.get(key).await?;
        let digest = shard::digest(&payload);
        let value = ShardLatents::decode(payload).map_err(|invalid| Error::invalid(key, &invalid))?;
        Ok(StoredLatents { version: key.split_version().1, value, digest, bytes })
    }

    async fn corrections(&self, key: &ObjectKey, latents: &StoredLatents) -> Result<StoredCorrections, Error> {
        let (payload, bytes) = self.objects.get(key).await?;
        let value = ShardCorrections::decode(payload, &latents.value, latents.digest);
        let value = value.map_err(|invalid| Error::invalid(key, &invalid))?;
        Ok(StoredCorrections { version: key.split_version().1, value, bytes })
    }

    /// Returns the newest latents that are intact and not pending deletion; `None` if there are none.
    pub async fn usable_latents(&self, prefix: &KeyPrefix) -> Result<Option<StoredLatents>, Error> {
        self.newest_usable(prefix, |key| async move { self.latents(&key).await }).await
    }

    /// Returns the newest corrections of `latents` that are intact and not pending deletion; `None` if there are none.
    pub async fn usable_corrections(
        &self,
        prefix: &KeyPrefix,
        latents: &StoredLatents,
    ) -> Result<Option<StoredCorrections>, Error> {
        self.newest_usable(prefix, |key| async move { self.corrections(&key, latents).await }).await
    }

    /// Stores latents under a new version. They are durable on return.
    pub async fn put_latents(
        &self,
        prefix: &KeyPrefix,
        latents: Encoded<ShardLatents>,
    ) -> Result<StoredLatents, Error> {
        let Encoded { value, payload } = latents;
        let (version, bytes) = self.put_version(prefix, &payload).await?;
        Ok(StoredLatents { version, value, digest: shard::digest(&payload), bytes })
    }

    /// Stores corrections under a new version. They are durable on return.
    pub async fn put_corrections(
        &self,
        prefix: &KeyPrefix,
        corrections: Encoded<ShardCorrections>,
    ) -> Result<StoredCorrections, Error> {
        let Encoded { value, payload } = corrections;
        let (version, bytes) = self.put_version(prefix, &payload).await?;
        Ok(StoredCorrections { version, value, bytes })
    }

    async fn put_version(&self, prefix: &KeyPrefix, payload: &Bytes) -> Result<(Version, u64), Error> {
        loop {
            let version = Version::after(Version::NONE);
            match self.objects.put(&prefix.at(version), payload, Space::Free).await? {
                PutOutcome::Created { bytes } => return Ok((version, bytes)),
                PutOutcome::AlreadyExists => {}
            }
        }
    }

    async fn newest_usable<T, R>(&self, prefix: &KeyPrefix, read: impl Fn(ObjectKey) -> R) -> Result<Option<T>, Error>
    where
        R: Future<Output = Result<T, Error>>,
    {
        for key in self.objects.versions(prefix).await?.into_iter().rev() {
            if self.pending_deletes.recent().await?.contains(&key) {
                continue;
            }
            match read(key).await {
                Ok(value) => return Ok(Some(value)),
                Err(Error::Missing { .. }) => {}
                Err(error @ Error::Damaged { .. }) => {
                    tracing::warn!(%error, "a damaged object is not reused");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
