//! One shard on its way into the store: found there, or compressed and verified, then stored.
//!
//! Equal shards asked for at once, by whomever, are done once ([`crate::flight`]). The store and not the cache is asked
//! what is there, checksums and all: what is acknowledged is on the disk, and a damaged object is made anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use c3_proto::ShardHash;

use super::plan::Plan;
use crate::error::Failure;
use crate::flight::SingleFlight;
use crate::gateway::{Gateway, SharedGateway};
use crate::nodes::calls::{CompressJob, CompressedWindow, TokenIds, VerifyJob};
use crate::store::layout::ShardNames;
use crate::store::manifest::{ShardEntry, Verification};
use crate::store::shard::{ShardCorrections, ShardLatents, WindowCorrections};
use crate::store::{Existing, Shard, StoreError, Stored, StoredLatents};

/// Shards being written, by where they are stored.
pub(crate) type Flights = SingleFlight<ShardNames, Result<WrittenShard, Failure>>;

/// A shard that is durable.
#[derive(Clone, Debug)]
pub(crate) struct WrittenShard {
    /// Its line of the manifest.
    pub(crate) entry: ShardEntry,
    /// The store had it: no model was asked.
    pub(crate) reused: bool,
    pub(crate) times: StageTimes,
}

/// How long each stage took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StageTimes {
    pub(crate) compress: Duration,
    pub(crate) verify: Duration,
    pub(crate) store: Duration,
}

impl std::ops::AddAssign for StageTimes {
    fn add_assign(&mut self, other: Self) {
        self.compress += other.compress;
        self.verify += other.verify;
        self.store += other.store;
    }
}

/// Makes a shard durable, unless it is already.
pub(crate) async fn write_shard(
    gateway: SharedGateway,
    plan: Arc<Plan>,
    text: Bytes,
) -> Result<WrittenShard, Failure> {
    let hash = ShardHash::of(&text);
    let plan = plan.of(hash);
    let names = plan.names(hash);
    let write = ShardWrite { gateway: Arc::clone(&gateway), plan, text, hash, names: names.clone() };
    gateway.flights.run(names, write.run(), || Err(Failure::gone())).await
}

/// Compresses a shard and, where planned, verifies it. Stores nothing.
pub(crate) async fn compress_shard(gateway: &Gateway, plan: &Plan, text: &Bytes) -> Result<Shard, Failure> {
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
    plan: Arc<Plan>,
    text: Bytes,
    hash: ShardHash,
    names: ShardNames,
}

impl ShardWrite {
    async fn run(self) -> Result<WrittenShard, Failure> {
        let mut times = StageTimes::default();
        let (latents, existing) = match self.gateway.store.latents(&self.names.latents).await {
            Ok(latents) => (Some(latents), Existing::Keep),
            Err(StoreError::Missing { .. }) => (None, Existing::Keep),
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::warn!(%error, "a damaged object is made anew");
                (None, Existing::Replace)
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(latents) = &latents
            && let Some(corrections) = self.stored_corrections(latents).await?
        {
            return Ok(self.written(latents, corrections.as_ref(), true, times));
        }
        let windows = compress(&self.gateway, &self.plan, &self.text, &mut times).await?;
        let (made, token_ids) = part(windows);
        // Where another made the same shard first, its latents stay, and the corrections are made for them.
        let latents = match latents {
            Some(stored) => stored,
            None => {
                let begun = Instant::now();
                let stored = self.gateway.store.put_latents(&self.names.latents, made, existing).await?;
                times.store += begun.elapsed();
                stored
            }
        };
        let corrections = self.correct(&latents, token_ids, &mut times).await?;
        let shard =
            Shard::new(latents.value.clone(), corrections.as_ref().map(|of| of.value.windows.clone()));
        self.gateway.cache.put(self.names.clone(), shard).await;
        Ok(self.written(&latents, corrections.as_ref(), false, times))
    }

    /// The corrections that the plan asks for, if the store has them: `Some(None)` where it asks for none.
    async fn stored_corrections(
        &self,
        latents: &StoredLatents,
    ) -> Result<Option<Option<Stored<ShardCorrections>>>, Failure> {
        let Some(name) = &self.names.corrections else { return Ok(Some(None)) };
        match self.gateway.store.corrections(name, latents).await {
            Ok(corrections) => Ok(Some(Some(corrections))),
            Err(StoreError::Missing { .. }) => Ok(None),
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::warn!(%error, "a damaged object is made anew");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes and stores the corrections that the plan asks for.
    async fn correct(
        &self,
        latents: &StoredLatents,
        token_ids: Vec<Vec<u32>>,
        times: &mut StageTimes,
    ) -> Result<Option<Stored<ShardCorrections>>, Failure> {
        let (Some(how), Some(name)) = (&self.plan.verification, &self.names.corrections) else {
            return Ok(None);
        };
        let windows = verify(&self.gateway, &self.plan, how, &latents.value, token_ids, times).await?;
        let value = ShardCorrections { latents: latents.digest, windows };
        let begun = Instant::now();
        let bytes = self.gateway.store.put_corrections(name, &value).await?;
        times.store += begun.elapsed();
        Ok(Some(Stored { value, bytes }))
    }

    fn written(
        &self,
        latents: &StoredLatents,
        corrections: Option<&Stored<ShardCorrections>>,
        reused: bool,
        times: StageTimes,
    ) -> WrittenShard {
        self.gateway.metrics.shard(reused);
        let corrections_bytes = corrections.map_or(0, |of| of.bytes);
        let entry = ShardEntry {
            stored_bytes: latents.bytes + corrections_bytes,
            ..ShardEntry::new(self.hash, &latents.value, corrections.map(|of| &of.value))
        };
        WrittenShard { entry, reused, times }
    }
}

async fn compress(
    gateway: &Gateway,
    plan: &Plan,
    text: &Bytes,
    times: &mut StageTimes,
) -> Result<Vec<CompressedWindow>, Failure> {
    let job = CompressJob {
        compressor: plan.cascade.compressor,
        text,
        ratio: plan.ratio,
        codec: plan.codec,
        tokens: if plan.verification.is_some() { TokenIds::Wanted } else { TokenIds::NotWanted },
    };
    let answer = gateway.nodes.compress(job).await?;
    times.compress += answer.took;
    Ok(answer.value)
}

async fn verify(
    gateway: &Gateway,
    plan: &Plan,
    how: &Verification,
    latents: &ShardLatents,
    token_ids: Vec<Vec<u32>>,
    times: &mut StageTimes,
) -> Result<Vec<WindowCorrections>, Failure> {
    let (windows, told) =
        (latents.windows.iter().map(|window| window.group.tokens() as usize), token_ids.iter());
    if !windows.eq(told.map(Vec::len)) {
        let compressor = plan.cascade.compressor;
        return Err(Failure::Internal(format!("compressors {compressor} do not agree on a shard's windows")));
    }
    let job = VerifyJob {
        decoder: plan.cascade.decoder,
        arithmetic: &how.arithmetic,
        margin: how.margin,
        windows: latents.windows.iter().zip(token_ids).collect(),
    };
    let answer = gateway.nodes.verify(job).await?;
    times.verify += answer.took;
    let corrections = answer.value.iter().map(|window| window.corrections.as_slice().len());
    gateway.metrics.shared.corrections(corrections.sum());
    Ok(answer.value)
}

/// Latents, which are kept, and token ids, which are not.
fn part(windows: Vec<CompressedWindow>) -> (ShardLatents, Vec<Vec<u32>>) {
    let (windows, token_ids) = windows.into_iter().map(|window| (window.latents, window.token_ids)).unzip();
    (ShardLatents { windows }, token_ids)
}
