//! Writes one shard: reuses it from the store, or else compresses, verifies and stores it.
//!
//! Concurrent writes of equal shards share one computation ([`crate::single_flight`]). Only the store decides about
//! reuse, by checking checksums of objects. The cache is not asked, so that acknowledged data is durable and damaged
//! objects are written again. A small shard that is a whole text is stored inline in the document's manifest, and not
//! shared.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use c3_routing::{CompressJob, CompressedWindow, VerifyJob};
use c3_store::manifest::{Placement, ShardEntry};
use c3_store::object::key::ShardKeyPrefixes;
use c3_store::shard::{self, Digest, Encoded, ShardCorrections, ShardLatents, StoredCorrections, StoredLatents};
use c3_store::{Error as StoreError, Shard};
use c3_types::{DocumentId, ShardHash, StageTimes, WindowCorrections};

use super::hash::TextHash;
use super::plan::WritePlan;
use crate::error::Error;
use crate::state::{Gateway, Placing, SharedGateway, WrittenShard};

/// Maximum total size of the latents and corrections of an inline shard, in bytes.
const INLINE_BYTES_MAX: usize = 8 << 10;

/// Part of a text, after it was written.
pub(super) enum WrittenPart {
    Shard(Box<WrittenShard>),
    /// The end of the text, with its hash.
    End(TextHash),
}

/// Writes a shard, or reuses it from the store. An inline shard becomes durable only with its manifest.
pub(crate) async fn write_shard(
    gateway: SharedGateway,
    plan: Arc<WritePlan>,
    text: Bytes,
    placing: Placing,
) -> Result<WrittenShard, Error> {
    let hash = ShardHash::of(&text);
    let plan = plan.for_shard(hash);
    let prefixes = plan.key_prefixes(hash);
    let key = (prefixes.clone(), placing);
    let write = ShardWrite { gateway: Arc::clone(&gateway), plan, text, hash, prefixes, placing };
    gateway.shard_writes.run(key, write.run(), || Err(Error::panicked())).await
}

/// Compresses a shard and, if planned, computes its corrections. Stores nothing.
pub(crate) async fn compress_shard(gateway: &Gateway, plan: &WritePlan, text: &Bytes) -> Result<Shard, Error> {
    let mut times = StageTimes::default();
    let (latents, token_ids) = compress(gateway, plan, text, &mut times).await?;
    let corrections = verify(gateway, plan, &latents, token_ids, &mut times).await?;
    Ok(Shard::new(latents, corrections))
}

struct ShardWrite {
    gateway: SharedGateway,
    plan: Arc<WritePlan>,
    text: Bytes,
    hash: ShardHash,
    prefixes: ShardKeyPrefixes,
    placing: Placing,
}

impl ShardWrite {
    async fn run(self) -> Result<WrittenShard, Error> {
        let mut times = StageTimes::default();
        if self.placing == Placing::Inline
            && let Some(entry) = self.stored_inline().await?
        {
            return Ok(self.written(entry, true, times));
        }
        let stored = self.gateway.store.usable_latents(&self.prefixes.latents).await?;
        if let Some(latents) = &stored
            && let Some(corrections) = self.stored_corrections(latents).await?
        {
            let entry = ShardEntry::in_objects(self.hash, latents, corrections.as_ref());
            return Ok(self.written(entry, true, times));
        }
        let (latents, token_ids) = compress(&self.gateway, &self.plan, &self.text, &mut times).await?;
        self.plan.compressed.fetch_add(self.text.len() as u64, Ordering::Relaxed);
        match (stored, self.placing) {
            // The stored latents lack corrections. These must be computed for the stored latents, not for the new ones.
            (Some(stored), _) => self.write_corrections(stored, token_ids, times).await,
            (None, Placing::Inline) => self.write_inline(latents.into_encoded(), token_ids, times).await,
            (None, Placing::Shared) => self.write_objects(latents.into_encoded(), token_ids, times).await,
        }
    }

    /// Returns the inline entry from the stored manifest of this text. Returns `None` if there is no such manifest or
    /// entry, if the manifest is damaged, or if its ratio or settings differ from the plan.
    async fn stored_inline(&self) -> Result<Option<ShardEntry>, Error> {
        let manifest = match self.gateway.store.manifest(DocumentId::of(&self.text)).await {
            Ok(found) => found.value,
            Err(StoreError::Missing { .. }) => return Ok(None),
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::warn!(%error, "a damaged manifest is written again");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if manifest.ratio != self.plan.ratio || !self.plan.has_settings_of(&manifest) {
            return Ok(None);
        }
        Ok(manifest
            .shards
            .into_iter()
            .next()
            .filter(|entry| entry.hash == self.hash && matches!(entry.placement, Placement::Inline { .. })))
    }

    /// Returns the stored corrections. Returns `Some(None)` if the plan has none, `None` if it has some that are not
    /// stored.
    async fn stored_corrections(&self, latents: &StoredLatents) -> Result<Option<Option<StoredCorrections>>, Error> {
        let Some(prefix) = &self.prefixes.corrections else { return Ok(Some(None)) };
        Ok(self.gateway.store.usable_corrections(prefix, latents).await?.map(Some))
    }

    /// Verifies new latents. Returns an inline entry, or stores objects if the shard is too large for that.
    async fn write_inline(
        &self,
        latents: Encoded<ShardLatents>,
        token_ids: Vec<Vec<u32>>,
        mut times: StageTimes,
    ) -> Result<WrittenShard, Error> {
        if latents.payload.len() > INLINE_BYTES_MAX {
            return self.write_objects(latents, token_ids, times).await;
        }
        let windows = verify(&self.gateway, &self.plan, &latents.value, token_ids, &mut times).await?;
        let digest = shard::digest(&latents.payload);
        let corrections = self.encode_corrections(&latents.value, digest, windows)?;
        let corrections_bytes = corrections.as_ref().map_or(0, |corrections| corrections.payload.len());
        if latents.payload.len() + corrections_bytes <= INLINE_BYTES_MAX {
            let entry = ShardEntry::inline(self.hash, &latents, corrections.as_ref());
            return Ok(self.written(entry, false, times));
        }
        let start = Instant::now();
        let latents = self.gateway.store.put_latents(&self.prefixes.latents, latents).await?;
        let corrections = self.put_corrections(corrections).await?;
        times.store += start.elapsed();
        Ok(self.written(ShardEntry::in_objects(self.hash, &latents, corrections.as_ref()), false, times))
    }

    /// Stores new latents, then verifies them and stores their corrections.
    async fn write_objects(
        &self,
        latents: Encoded<ShardLatents>,
        token_ids: Vec<Vec<u32>>,
        mut times: StageTimes,
    ) -> Result<WrittenShard, Error> {
        let start = Instant::now();
        let latents = self.gateway.store.put_latents(&self.prefixes.latents, latents).await?;
        times.store += start.elapsed();
        self.write_corrections(latents, token_ids, times).await
    }

    /// Verifies stored latents, if planned, and stores their corrections.
    async fn write_corrections(
        &self,
        latents: StoredLatents,
        token_ids: Vec<Vec<u32>>,
        mut times: StageTimes,
    ) -> Result<WrittenShard, Error> {
        let windows = verify(&self.gateway, &self.plan, &latents.value, token_ids, &mut times).await?;
        let start = Instant::now();
        let corrections = self.encode_corrections(&latents.value, latents.digest, windows)?;
        let corrections = self.put_corrections(corrections).await?;
        times.store += start.elapsed();
        let entry = ShardEntry::in_objects(self.hash, &latents, corrections.as_ref());
        Ok(self.written(entry, false, times))
    }

    /// Encodes the corrections of latents with this digest, and the sketches of their windows; `None` if there are no
    /// corrections.
    fn encode_corrections(
        &self,
        latents: &ShardLatents,
        digest: Digest,
        windows: Option<Vec<WindowCorrections>>,
    ) -> Result<Option<Encoded<ShardCorrections>>, Error> {
        let Some(windows) = windows else { return Ok(None) };
        let text = std::str::from_utf8(&self.text);
        let text = text.map_err(|_| Error::Internal("a shard is not UTF-8".to_owned()))?;
        let sketches = self.plan.sketches(text, latents);
        Ok(Some(ShardCorrections { latents: digest, windows, sketches }.into_encoded()))
    }

    async fn put_corrections(
        &self,
        corrections: Option<Encoded<ShardCorrections>>,
    ) -> Result<Option<StoredCorrections>, Error> {
        match self.prefixes.corrections.as_ref().zip(corrections) {
            Some((prefix, corrections)) => Ok(Some(self.gateway.store.put_corrections(prefix, corrections).await?)),
            None => Ok(None),
        }
    }

    fn written(&self, entry: ShardEntry, reused: bool, times: StageTimes) -> WrittenShard {
        self.gateway.metrics.shard(reused);
        WrittenShard { entry: entry.with_newlines(&self.text), reused, times }
    }
}

/// Returns the latents of a shard, and the token ids of each window, which are empty if no verification is planned.
async fn compress(
    gateway: &Gateway,
    plan: &WritePlan,
    text: &Bytes,
    times: &mut StageTimes,
) -> Result<(ShardLatents, Vec<Vec<u32>>), Error> {
    let job = CompressJob {
        compressor: plan.cascade.compressor,
        text,
        ratio: plan.ratio,
        codec: plan.codec,
        verified_by: plan.verification.as_ref().map(|_| plan.cascade.decoder),
    };
    let response = gateway.router.compress(job).await?;
    times.compress += response.latency;
    let split = |window: CompressedWindow| (window.latents, window.token_ids);
    let (windows, token_ids) = response.value.into_iter().map(split).unzip();
    Ok((ShardLatents { windows }, token_ids))
}

/// Returns the corrections of each window, or `None` if no verification is planned.
async fn verify(
    gateway: &Gateway,
    plan: &WritePlan,
    latents: &ShardLatents,
    token_ids: Vec<Vec<u32>>,
    times: &mut StageTimes,
) -> Result<Option<Vec<WindowCorrections>>, Error> {
    let Some(verification) = &plan.verification else { return Ok(None) };
    // Stored latents and token ids may come from different compressor nodes, so their windows may differ.
    let tokens = latents.windows.iter().map(|window| window.group.tokens() as usize);
    if !tokens.eq(token_ids.iter().map(Vec::len)) {
        let compressor = plan.cascade.compressor;
        return Err(Error::Internal(format!(
            "compressors with fingerprint {compressor} split a shard into different windows"
        )));
    }
    let job = VerifyJob {
        decoder: plan.cascade.decoder,
        arithmetic: &verification.arithmetic,
        margin: verification.margin,
        windows: latents.windows.iter().zip(token_ids).collect(),
    };
    let response = gateway.router.verify(job).await?;
    times.verify += response.latency;
    let corrections = response.value.iter().map(|window| window.corrections.as_slice().len() as u64).sum();
    let tokens = response.value.iter().map(|window| u64::from(window.tokens)).sum();
    gateway.metrics.verified(&plan.cascade.name, tokens, corrections);
    Ok(Some(response.value))
}
