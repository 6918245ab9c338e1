//! What search needs of the store: the secret with which terms are hashed, and the sketches of documents. The store does
//! not read sketches: `c3-search` does.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::manifest::{Manifest, Placement, ShardEntry};
use crate::object::key::{self, ObjectKey};
use crate::object::{PutOutcome, Space};
use crate::shard::ShardCorrections;
use crate::{Error, Store};

/// Bytes of the secret.
const SECRET_BYTES: usize = 32;
/// Objects of a document that are read concurrently.
const READS_IN_FLIGHT: usize = 16;

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
    /// turned off; or their sketches are damaged.
    pub missing: u64,
}

impl Store {
    /// Returns the secret with which this tenant's terms are hashed. Creates it if the store has none. It is stored as
    /// an object, so it is encrypted like all others. Fails with [`Error::Damaged`] if it cannot be read.
    pub async fn search_secret(&self) -> Result<[u8; SECRET_BYTES], Error> {
        let key = key::search_secret();
        loop {
            match self.objects.get(&key).await {
                Ok((payload, _)) => {
                    let secret = <[u8; SECRET_BYTES]>::try_from(&payload[..]);
                    return secret.map_err(|_| Error::damaged(&key, "it does not have 32 bytes"));
                }
                Err(Error::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
            let mut secret = zeroize::Zeroizing::new([0; SECRET_BYTES]);
            getrandom::fill(&mut *secret).map_err(|error| Error::from_io(error.into()))?;
            match self.objects.put(&key, &*secret, Space::Free).await? {
                PutOutcome::Created { .. } => return Ok(*secret),
                // Another gateway has created one at the same time.
                PutOutcome::AlreadyExists => {}
            }
        }
    }

    /// Reads the sketches of a document, but none of its latents. Damaged ones count as missing. Fails with
    /// [`Error::Missing`] if an object was removed meanwhile.
    pub async fn sketches(&self, manifest: &Manifest) -> Result<DocumentSketches, Error> {
        let shards = stream::iter(&manifest.shards).map(|entry| self.shard_sketches(manifest, entry));
        let shards: Vec<Vec<Bytes>> = shards.buffered(READS_IN_FLIGHT).try_collect().await?;
        let (mut sketches, mut end) = (DocumentSketches::default(), 0);
        for (entry, of_shard) in manifest.shards.iter().zip(shards) {
            if of_shard.is_empty() {
                sketches.missing += entry.window_bytes.len() as u64;
                end += entry.bytes();
                continue;
            }
            for (&bytes, sketch) in entry.window_bytes.iter().zip(of_shard) {
                let start = end;
                end += u64::from(bytes);
                sketches.windows.push(WindowSketch { bytes: start..end, sketch });
            }
        }
        Ok(sketches)
    }

    /// Returns the sketches of a shard's windows; empty if it has none, or if they are damaged.
    async fn shard_sketches(&self, manifest: &Manifest, entry: &ShardEntry) -> Result<Vec<Bytes>, Error> {
        let (key, payload) = match &entry.placement {
            Placement::Inline { corrections: Some(payload), .. } => {
                (key::manifest(manifest.id, manifest.version), payload.clone())
            }
            Placement::Inline { corrections: None, .. } => return Ok(Vec::new()),
            Placement::Objects { .. } => match manifest.keys(entry).and_then(|keys| keys.corrections) {
                Some(key) => match self.objects.get(&key).await {
                    Ok((payload, _)) => (key, payload),
                    Err(error @ Error::Damaged { .. }) => return Ok(unreadable(&key, &error.to_string())),
                    Err(error) => return Err(error),
                },
                None => return Ok(Vec::new()),
            },
        };
        Ok(ShardCorrections::decode_sketches(payload, entry.window_bytes.len())
            .unwrap_or_else(|invalid| unreadable(&key, &invalid.to_string())))
    }
}

fn unreadable(key: &ObjectKey, problem: &str) -> Vec<Bytes> {
    tracing::warn!(%key, problem, "a part of a document is left out of search: run `c3 fsck`");
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{large, open, small, store};

    #[tokio::test]
    async fn gateways_agree_on_the_secret() {
        let (folder, store) = store().await;
        let other = open(folder.path()).await;
        let (one, two) = tokio::join!(store.search_secret(), other.search_secret());
        let one = one.unwrap();
        assert_eq!((two.unwrap(), open(folder.path()).await.search_secret().await.unwrap()), (one, one));
        assert_ne!(one, [0; 32]);
    }

    #[tokio::test]
    async fn sketches_have_the_ranges_of_their_windows() {
        let (_folder, store) = store().await;
        for manifest in [small("inline"), large(&store, "objects").await.0] {
            let sketches = store.sketches(&manifest).await.unwrap();
            let ranges = Vec::from_iter(sketches.windows.iter().map(|window| window.bytes.clone()));
            assert_eq!((ranges, sketches.missing), (vec![0..120, 120..141], 0));
            let starts = Vec::from_iter(sketches.windows.iter().map(|window| window.sketch[1]));
            assert_eq!(starts, [0, 120]);
        }
    }
}
