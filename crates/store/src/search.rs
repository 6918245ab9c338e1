//! Storage for search: the secret with which terms are hashed, and the sketches of documents. The store does not
//! interpret sketches: `c3-search` does.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::encryption::secret::Secret;
use crate::manifest::{Manifest, Placement, ShardEntry};
use crate::object::key::{self, ObjectKey};
use crate::object::{PutOutcome, Space};
use crate::shard::{self, ShardCorrections, ShardLatents, Sketches};
use crate::{Error, Store};

/// Objects of a document that are read concurrently.
const READS_IN_FLIGHT: usize = 16;

/// Secret with which a tenant's terms are hashed.
#[derive(Clone, Debug)]
pub struct SearchSecret {
    /// The secret.
    pub secret: Secret,
    /// Id of the secret, which stands beside sketches.
    pub id: u32,
}

/// Sketch of a window of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowSketch {
    /// Range of the window's text, in bytes from the start of the document.
    pub bytes: Range<u64>,
    /// The encoded sketch.
    pub sketch: Bytes,
}

/// Sketches of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentSketches {
    /// Windows that have a sketch, in text order.
    pub windows: Vec<WindowSketch>,
    /// Number of windows without a sketch: they were stored by an earlier version, without verification, or with search
    /// turned off; or their sketches are damaged, or were made with another secret.
    pub missing: u64,
}

impl SearchSecret {
    fn new(secret: Secret) -> Self {
        let [a, b, c, d, ..] = *secret.derive("c3 store, id of the secret of search, version 1").expose();
        // 0 stands beside sketches of no secret.
        Self { secret, id: u32::from_le_bytes([a, b, c, d]).max(1) }
    }
}

impl Store {
    /// Returns the secret with which this tenant's terms are hashed. Creates it if the store has none. It is stored as
    /// an object, so it is encrypted like all others. Fails with [`Error::Damaged`] if it cannot be read.
    pub async fn search_secret(&self) -> Result<SearchSecret, Error> {
        let key = key::search_secret();
        loop {
            match self.objects.get(&key).await {
                Ok((payload, _)) => {
                    let secret = Secret::from_bytes(&payload);
                    let secret = secret.ok_or_else(|| Error::damaged(&key, "it does not have 32 bytes"))?;
                    return Ok(SearchSecret::new(secret));
                }
                Err(Error::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
            let secret = Secret::random();
            match self.objects.put(&key, secret.expose(), Space::Free).await? {
                PutOutcome::Created { .. } => return Ok(SearchSecret::new(secret)),
                // Another gateway has created one at the same time.
                PutOutcome::AlreadyExists => {}
            }
        }
    }

    /// Reads the sketches of a document that were made with the secret of this id, but none of its latents. Damaged ones
    /// count as missing. Fails with [`Error::Missing`] if an object was removed meanwhile.
    pub async fn sketches(&self, manifest: &Manifest, secret: u32) -> Result<DocumentSketches, Error> {
        let reads = Vec::from_iter(manifest.shards.iter().map(|entry| self.shard_sketches(manifest, entry)));
        let shards: Vec<Sketches> = stream::iter(reads).buffered(READS_IN_FLIGHT).try_collect().await?;
        let (mut sketches, mut end) = (DocumentSketches::default(), 0);
        for (entry, of_shard) in manifest.shards.iter().zip(shards) {
            if of_shard.windows.is_empty() || of_shard.secret != secret {
                sketches.missing += entry.window_bytes.len() as u64;
                end += entry.bytes();
                continue;
            }
            for (&bytes, sketch) in entry.window_bytes.iter().zip(of_shard.windows) {
                let start = end;
                end += u64::from(bytes);
                sketches.windows.push(WindowSketch { bytes: start..end, sketch });
            }
        }
        Ok(sketches)
    }

    /// Returns the latents and the corrections of a shard that has objects of its own. Fails with [`Error::Missing`] for
    /// an inline or an unverified shard.
    pub async fn shard_parts(
        &self,
        manifest: &Manifest,
        entry: &ShardEntry,
    ) -> Result<(ShardLatents, ShardCorrections), Error> {
        let missing = || Error::Missing { object: key::manifest(manifest.id, manifest.version).to_string() };
        let keys = manifest.keys(entry).ok_or_else(missing)?;
        let (latents, corrections) = self.shard_objects(&keys).await?;
        Ok((latents.value, corrections.ok_or_else(missing)?.value))
    }

    /// Returns an entry for the same shard with the sketches that `make` computes for its latents. They are stored with
    /// its corrections; the latents stay as they are. Fails with [`Error::Missing`] if the shard has no corrections.
    pub async fn with_sketches(
        &self,
        manifest: &Manifest,
        entry: &ShardEntry,
        make: impl FnOnce(&ShardLatents) -> Sketches,
    ) -> Result<ShardEntry, Error> {
        let key = key::manifest(manifest.id, manifest.version);
        let unverified = || Error::Missing { object: format!("{key}: corrections") };
        let placement = match &entry.placement {
            Placement::Inline { latents, corrections } => {
                let corrections = corrections.clone().ok_or_else(unverified)?;
                let invalid = |invalid| Error::invalid(&key, &invalid);
                let decoded = ShardLatents::decode(latents.clone()).map_err(invalid)?;
                let value = ShardCorrections::decode(corrections, &decoded, shard::digest(latents)).map_err(invalid)?;
                let payload = ShardCorrections { sketches: make(&decoded), ..value }.into_encoded().payload;
                Placement::Inline { latents: latents.clone(), corrections: Some(payload) }
            }
            Placement::Objects { .. } => {
                let keys = manifest.keys(entry).ok_or_else(unverified)?;
                let (latents, corrections) = self.shard_objects(&keys).await?;
                let corrections = corrections.ok_or_else(unverified)?;
                let value = ShardCorrections { sketches: make(&latents.value), ..corrections.value };
                let prefix = manifest.key_prefixes(entry).corrections.ok_or_else(unverified)?;
                let stored = self.put_corrections(&prefix, value.into_encoded()).await?;
                let stored_bytes = latents.bytes + stored.bytes;
                let placement = Placement::Objects { latents: latents.version, corrections: stored.version };
                return Ok(ShardEntry { placement, stored_bytes, ..entry.clone() });
            }
        };
        Ok(ShardEntry { placement, ..entry.clone() })
    }

    /// Returns the sketches of a shard; none if it has none, or if they are damaged.
    async fn shard_sketches(&self, manifest: &Manifest, entry: &ShardEntry) -> Result<Sketches, Error> {
        let (key, payload) = match &entry.placement {
            Placement::Inline { corrections: Some(payload), .. } => {
                (key::manifest(manifest.id, manifest.version), payload.clone())
            }
            Placement::Inline { corrections: None, .. } => return Ok(Sketches::default()),
            Placement::Objects { .. } => match manifest.keys(entry).and_then(|keys| keys.corrections) {
                Some(key) => match self.objects.get(&key).await {
                    Ok((payload, _)) => (key, payload),
                    Err(error @ Error::Damaged { .. }) => return Ok(unreadable(&key, &error.to_string())),
                    Err(error) => return Err(error),
                },
                None => return Ok(Sketches::default()),
            },
        };
        Ok(ShardCorrections::decode_sketches(payload, entry.window_bytes.len())
            .unwrap_or_else(|invalid| unreadable(&key, &invalid.to_string())))
    }
}

fn unreadable(key: &ObjectKey, problem: &str) -> Sketches {
    tracing::warn!(%key, problem, "a part of a document is left out of search: run `c3 fsck`");
    Sketches::default()
}

#[cfg(test)]
mod tests {
    use crate::shard::tests::SECRET;
    use crate::tests::{large, open, small, store};

    #[tokio::test]
    async fn gateways_agree_on_the_secret() {
        let (folder, store) = store().await;
        let other = open(folder.path()).await;
        let (one, two) = tokio::join!(store.search_secret(), other.search_secret());
        let three = open(folder.path()).await.search_secret().await;
        let [one, two, three] = [one, two, three].map(|secret| *secret.unwrap().secret.expose());
        assert_eq!((two, three), (one, one));
        assert_ne!(one, [0; 32]);
    }

    #[tokio::test]
    async fn sketches_have_the_ranges_of_their_windows() {
        let (_folder, store) = store().await;
        for manifest in [small("inline"), large(&store, "objects").await.0] {
            let sketches = store.sketches(&manifest, SECRET).await.unwrap();
            let ranges = Vec::from_iter(sketches.windows.iter().map(|window| window.bytes.clone()));
            assert_eq!((ranges, sketches.missing), (vec![0..120, 120..141], 0));
            let starts = Vec::from_iter(sketches.windows.iter().map(|window| window.sketch[1]));
            assert_eq!(starts, [0, 120]);
            let of_another = store.sketches(&manifest, SECRET + 1).await.unwrap();
            assert_eq!((of_another.windows.len(), of_another.missing), (0, 2));
        }
    }
}
