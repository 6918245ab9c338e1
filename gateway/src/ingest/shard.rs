//! One shard on its way into the store: found there, or compressed and verified, then stored.
//!
//! Equal shards asked for at once, by whomever, are done once ([`crate::single_flight`]). The store and not the cache is asked
//! what is there, checksums and all: what is acknowledged is on the disk, and a damaged object is made anew. A text that
//! is one small shard is kept in its manifest, where no other document finds it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use c3_types::{DocumentId, ShardHash, StageTimes, WindowCorrections};

use super::hash::TextHash;
use super::plan::WritePlan;
use crate::error::Error;
use crate::state::{Gateway, Placing, SharedGateway, WrittenShard};
use c3_routing::{CompressJob, CompressedWindow, TokenIds, VerifyJob};
use c3_store::manifest::{Placement, ShardEntry, Verification};
use c3_store::object::key::ShardKeyPrefixes;
use c3_store::object::version::Version;
use c3_store::shard::{self, Encoded, ShardCorrections, ShardLatents, StoredCorrections, StoredLatents};
use c3_store::{Error as StoreError, Shard};

/// Most bytes of latents and corrections that a manifest holds.
const INLINE_BYTES_MAX: usize = 8 << 10;

/// A part of a text that was written.
pub(super) enum WrittenPart {
    Shard(Box<WrittenShard>),
    /// The hash of the text, after its last shard.
    End(TextHash),
}

/// Makes a shard durable, unless it is already.
pub(crate) async fn write_shard(
    gateway: SharedGateway,
    plan: Arc<WritePlan>,
    text: Bytes,
    keep: Placing,
) -> Result<WrittenShard, Error> {
    let hash = ShardHash::of(&text);
    let plan = plan.for_shard(hash);
    let prefixes = plan.key_prefixes(hash);
    let key = (prefixes.clone(), keep);
    let write = ShardWrite { gateway: Arc::clone(&gateway), plan, text, hash, prefixes, keep };
    gateway.shard_writes.run(key, write.run(), || Err(Error::panicked())).await
}

/// Compresses a shard and, where planned, verifies it. Stores nothing.
pub(crate) async fn compress_shard(
    gateway: &Gateway,
    plan: &WritePlan,
    text: &Bytes,
) -> Result<Shard, Error> {
    let mut times = StageTimes::default();
    let windows = compress(gateway, plan, text, &mut times).await?;
    let (latents, token_ids) = part(windows);
    let corrections = match &plan.verification {
        Some(how) => Some(verify(gateway, plan, how, &latents, token_ids, &mut times).await?),
        None => None,
    };
    Ok(Shard::new(latents, corrections))
}

struct ShardWrite {
    gateway: SharedGateway,
    plan: Arc<WritePlan>,
    text: Bytes,
    hash: ShardHash,
    prefixes: ShardKeyPrefixes,
    keep: Placing,
}

impl ShardWrite {
    async fn run(self) -> Result<WrittenShard, Error> {
        let mut times = StageTimes::default();
        if self.keep == Placing::Inline
            && let Some(entry) = self.stored_inline().await?
        {
            return Ok(self.written(entry, true, times));
        }
        let latents = self.gateway.store.usable_latents(&self.prefixes.latents).await?;
        if let Some(latents) = &latents
            && let Some(corrections) = self.stored_corrections(latents).await?
        {
            let entry = ShardEntry::in_objects(self.hash, latents, corrections.as_ref());
            return Ok(self.written(entry, true, times));
        }
        let windows = compress(&self.gateway, &self.plan, &self.text, &mut times).await?;
        let (compressed, token_ids) = part(windows);
        match (latents, self.keep) {
            // Stored latents lack corrections, which must be made for exactly these latents.
            (Some(stored), _) => self.correct(stored, token_ids, times).await,
            (None, Placing::Inline) => self.make_inline(compressed.into_encoded(), token_ids, times).await,
            (None, Placing::Shared) => self.make_objects(compressed.into_encoded(), token_ids, times).await,
        }
    }

    /// The text's entry in a manifest that was written with the same settings.
    async fn stored_inline(&self) -> Result<Option<ShardEntry>, Error> {
        let manifest = match self.gateway.store.manifest(DocumentId::of(&self.text)).await {
            Ok(found) => found.value,
            Err(StoreError::Missing { .. }) => return Ok(None),
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::warn!(%error, "a damaged manifest is made anew");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let WritePlan { cascade, ratio, codec, verification, .. } = &*self.plan;
        let same = (&manifest.cascade, &manifest.ratio, &manifest.codec, &manifest.verification)
            == (cascade, ratio, codec, verification);
        Ok(manifest.shards.into_iter().next().filter(|entry| {
            same && entry.hash == self.hash && matches!(entry.placement, Placement::Inline { .. })
        }))
    }

    /// The corrections that the plan asks for, if the store has them: `Some(None)` where it asks for none.
    async fn stored_corrections(
        &self,
        latents: &StoredLatents,
    ) -> Result<Option<Option<StoredCorrections>>, Error> {
        let Some(prefix) = &self.prefixes.corrections else { return Ok(Some(None)) };
        Ok(self.gateway.store.usable_corrections(prefix, latents).await?.map(Some))
    }

    /// Verifies new latents and keeps the shard inline, or in objects if it is too large.
    async fn make_inline(
        &self,
        latents: Encoded<ShardLatents>,
        token_ids: Vec<Vec<u32>>,
        mut times: StageTimes,
    ) -> Result<WrittenShard, Error> {
        if latents.payload.len() > INLINE_BYTES_MAX {
            return self.make_objects(latents, token_ids, times).await;
        }
        let corrections = match &self.plan.verification {
            Some(how) => {
                let windows =
                    verify(&self.gateway, &self.plan, how, &latents.value, token_ids, &mut times).await?;
                let latents = shard::digest(&latents.payload);
                Some(ShardCorrections { latents, windows }.into_encoded())
            }
            None => None,
        };
        let corrections_bytes = corrections.as_ref().map_or(0, |corrections| corrections.payload.len());
        if latents.payload.len() + corrections_bytes <= INLINE_BYTES_MAX {
            let entry = ShardEntry::inline(self.hash, &latents, corrections.as_ref());
            return Ok(self.written(entry, false, times));
        }
        let start = Instant::now();
        let latents = self.gateway.store.put_latents(&self.prefixes.latents, latents).await?;
        let corrections = match corrections {
            Some(corrections) => self.put_corrections(corrections).await?,
            None => None,
        };
        times.store += start.elapsed();
        Ok(self.written(ShardEntry::in_objects(self.hash, &latents, corrections.as_ref()), false, times))
    }

    /// Stores new latents, then verifies them.
    async fn make_objects(
        &self,
        latents: Encoded<ShardLatents>,
        token_ids: Vec<Vec<u32>>,
        mut times: StageTimes,
    ) -> Result<WrittenShard, Error> {
        let start = Instant::now();
        let latents = self.gateway.store.put_latents(&self.prefixes.latents, latents).await?;
        times.store += start.elapsed();
        self.correct(latents, token_ids, times).await
    }

    /// Verifies stored latents, if planned, and stores their corrections.
    async fn correct(
        &self,
        latents: StoredLatents,
        token_ids: Vec<Vec<u32>>,
        mut times: StageTimes,
    ) -> Result<WrittenShard, Error> {
        let corrections = match &self.plan.verification {
            Some(how) => {
                let windows =
                    verify(&self.gateway, &self.plan, how, &latents.value, token_ids, &mut times).await?;
                let start = Instant::now();
                let corrections = ShardCorrections { latents: latents.digest, windows }.into_encoded();
                let corrections = self.put_corrections(corrections).await?;
                times.store += start.elapsed();
                corrections
            }
            None => None,
        };
        let entry = ShardEntry::in_objects(self.hash, &latents, corrections.as_ref());
        let corrections_version =
            corrections.as_ref().map_or(Version::NONE, |corrections| corrections.version);
        let keys = self.prefixes.at(latents.version, corrections_version);
        let shard = Shard::new(latents.value, corrections.map(|corrections| corrections.value.windows));
        self.gateway.cache.put(keys, shard).await;
        Ok(self.written(entry, false, times))
    }

    async fn put_corrections(
        &self,
        corrections: Encoded<ShardCorrections>,
    ) -> Result<Option<StoredCorrections>, Error> {
        let Some(prefix) = &self.prefixes.corrections else { return Ok(None) };
        Ok(Some(self.gateway.store.put_corrections(prefix, corrections).await?))
    }

    fn written(&self, entry: ShardEntry, reused: bool, times: StageTimes) -> WrittenShard {
        self.gateway.metrics.shard(reused);
        WrittenShard { entry, reused, times }
    }
}

async fn compress(
    gateway: &Gateway,
    plan: &WritePlan,
    text: &Bytes,
    times: &mut StageTimes,
) -> Result<Vec<CompressedWindow>, Error> {
    let job = CompressJob {
        compressor: plan.cascade.compressor,
        text,
        ratio: plan.ratio,
        codec: plan.codec,
        token_ids: if plan.verification.is_some() { TokenIds::Included } else { TokenIds::Omitted },
    };
    let answer = gateway.router.compress(job).await?;
    times.compress += answer.latency;
    Ok(answer.value)
}

async fn verify(
    gateway: &Gateway,
    plan: &WritePlan,
    how: &Verification,
    latents: &ShardLatents,
    token_ids: Vec<Vec<u32>>,
    times: &mut StageTimes,
) -> Result<Vec<WindowCorrections>, Error> {
    let (windows, told) =
        (latents.windows.iter().map(|window| window.group.tokens() as usize), token_ids.iter());
    if !windows.eq(told.map(Vec::len)) {
        let compressor = plan.cascade.compressor;
        return Err(Error::Internal(format!("compressors {compressor} do not agree on a shard's windows")));
    }
    let job = VerifyJob {
        decoder: plan.cascade.decoder,
        arithmetic: &how.arithmetic,
        margin: how.margin,
        windows: latents.windows.iter().zip(token_ids).collect(),
    };
    let answer = gateway.router.verify(job).await?;
    times.verify += answer.latency;
    let corrections = answer.value.iter().map(|window| window.corrections.as_slice().len());
    gateway.metrics.server.corrections(corrections.sum());
    Ok(answer.value)
}

/// Latents, which are kept, and token ids, which are not.
fn part(windows: Vec<CompressedWindow>) -> (ShardLatents, Vec<Vec<u32>>) {
    let (windows, token_ids) = windows.into_iter().map(|window| (window.latents, window.token_ids)).unzip();
    (ShardLatents { windows }, token_ids)
}
