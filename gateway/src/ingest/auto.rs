//! `ratio: auto`: chooses a ratio for each shard, so that the document keeps a bound on fidelity or on stored bytes. A
//! *shard* is a part of the text that is compressed as a unit. The *ratio* is the number of text tokens per latent.
//! *Fidelity* is the fraction of tokens that the decoder predicts correctly without corrections.
//!
//! Candidate ratios are ordered from preferred to safest. For a minimum fidelity, the order is from high to low; for a
//! maximum of stored bytes, it is from low to high. The position of a ratio in this order is its *step*. The *cost* of
//! a shard is its number of wrong tokens, or of stored bytes. The bound limits the sum of all costs, so a shard of low
//! cost leaves *room* for others. A bound may be missed, even at the safest ratio. An *attempt* writes one shard at one
//! step. [`allocator`] chooses which attempts to make, and which of them to keep. Discarded attempts stay in the store
//! until garbage collection.

use std::sync::Arc;

use async_stream::try_stream;
use c3_store::manifest::ShardEntry;
use c3_types::{AutoBound, AutoRatio, Document, WriteOptions};
use futures::{Stream, StreamExt, TryStreamExt, pin_mut, stream};

use super::plan::WritePlan;
use super::shard::{WrittenPart, write_shard};
use super::text::TextPart;
use crate::error::Error;
use crate::spawn::spawn;
use crate::state::{Gateway, Placing, SharedGateway};

use allocator::{Allocator, Totals};

mod allocator;

/// Maximum number of shards in a block. The ratios of a block's shards are chosen together. Until then, the texts of
/// the shards, at most 512 KiB, stay in memory.
const BLOCK_SHARDS: usize = 32;
/// Candidate ratios if the caller names none. Ratios that the checkpoint does not support are left out. If none
/// remains, the checkpoint's default ratio is used.
const RATIOS: [u32; 4] = [10, 20, 40, 80];
/// Typical factor by which halving the ratio reduces the number of wrong tokens. For the default model, the factor is 2
/// to 100.
const ERROR_FALL: f64 = 10.0;
/// Estimated size of a shard's entry in the manifest, in bytes.
const ENTRY_BYTES: u64 = 100;

/// Candidate ratios of a document and the bound that it must keep.
#[derive(Clone, Debug)]
pub(crate) struct RatioPolicy {
    /// Settings of a shard at each step. Never empty.
    steps: Vec<Arc<WritePlan>>,
    bound: AutoBound,
    /// Size of the text in bytes; 0 if unknown, which happens only for a bound on fidelity.
    bytes: u64,
}

impl RatioPolicy {
    /// Fails if the checkpoint does not support a ratio that the caller named.
    pub(super) async fn new(
        auto: &AutoRatio,
        plan: &WritePlan,
        options: &WriteOptions,
        gateway: &Gateway,
    ) -> Result<Self, Error> {
        let served = gateway.router.cascade(Some(&plan.cascade.name)).await?;
        let mut ratios = auto.ratios.clone();
        if ratios.is_empty() {
            ratios.extend(RATIOS.iter().filter(|&&ratio| served.ratios.check(ratio).is_ok()));
        }
        if ratios.is_empty() {
            ratios.push(served.ratios.default);
        }
        if let AutoBound::FidelityMin(_) = auto.bound {
            ratios.reverse();
        }
        let plan = |ratio| Arc::new(WritePlan { ratio, ..plan.clone() });
        let steps = ratios.iter().map(|&ratio| served.ratios.check(ratio).map(plan)).collect::<Result<_, _>>()?;
        Ok(Self { steps, bound: auto.bound, bytes: options.bytes.unwrap_or(0) })
    }

    /// Returns whether the document keeps the bound. An unverified document keeps no bound on fidelity.
    pub(super) fn is_met(&self, document: &Document) -> bool {
        match self.bound {
            AutoBound::FidelityMin(min) => document.fidelity().is_some_and(|fidelity| fidelity >= min),
            AutoBound::StoredBytesMax(max) => document.stored_bytes <= max,
        }
    }

    fn totals(&self, shard: &ShardEntry) -> Totals {
        let bytes = shard.bytes() as f64;
        let (cost, allowance) = match self.bound {
            AutoBound::FidelityMin(min) => (shard.tokens - shard.right, (1.0 - min) * shard.tokens as f64),
            AutoBound::StoredBytesMax(max) => {
                (shard.bytes_at_rest() + ENTRY_BYTES, max as f64 * bytes / self.bytes.max(1) as f64)
            }
        };
        Totals { bytes, cost: cost as f64, allowance }
    }

    fn ratio(&self, step: usize) -> f64 {
        f64::from(self.steps[step].ratio)
    }

    /// Returns the expected cost of a shard at step `to`, divided by its cost at step `from`.
    fn cost_quotient(&self, from: usize, to: usize) -> f64 {
        match self.bound {
            AutoBound::FidelityMin(_) => ERROR_FALL.powf((self.ratio(to) / self.ratio(from)).log2()),
            AutoBound::StoredBytesMax(_) => self.ratio(from) / self.ratio(to),
        }
    }
}

/// Writes the shards of a text and chooses their ratios. Yields the shards in order, then the end of the text.
pub(super) fn write_parts(
    gateway: SharedGateway,
    policy: RatioPolicy,
    parts: impl Stream<Item = Result<TextPart, Error>> + Send,
) -> impl Stream<Item = Result<WrittenPart, Error>> + Send {
    try_stream! {
        let plans = policy.steps.clone();
        let mut allocator = Allocator::new(policy);
        let blocks = parts.chunks(BLOCK_SHARDS);
        pin_mut!(blocks);
        while let Some(parts) = blocks.next().await {
            let (mut texts, mut placing, mut end) = (Vec::new(), Placing::Shared, None);
            for part in parts {
                match part? {
                    TextPart::Shard(text) => texts.push(text),
                    TextPart::OnlyShard(text) => (texts, placing) = (vec![text], Placing::Inline),
                    TextPart::End(hash) => end = Some(hash),
                }
            }
            allocator.begin_block(texts);
            while let Some(wave) = allocator.next() {
                let writes = wave.iter().map(|&(at, step)| (Arc::clone(&plans[step]), allocator.text(at)));
                let written = stream::iter(Vec::from_iter(writes))
                    .map(|(plan, text)| spawn(write_shard(Arc::clone(&gateway), plan, text, placing)))
                    .buffered(gateway.shards_in_flight());
                for (attempt, written) in wave.into_iter().zip(written.try_collect::<Vec<_>>().await?) {
                    allocator.record(attempt, written);
                }
            }
            for shard in allocator.end_block() {
                yield WrittenPart::Shard(Box::new(shard));
            }
            if let Some(hash) = end {
                yield WrittenPart::End(hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use c3_types::{Cascade, DocumentId, Fingerprint, LatentCodec, Verification};

    use super::*;

    /// Returns a policy whose steps have these ratios.
    pub(super) fn policy(ratios: &[u32], bound: AutoBound, bytes: u64) -> RatioPolicy {
        let (compressor, decoder) = (Fingerprint::of(b"c"), Fingerprint::of(b"d"));
        let step = |&ratio: &u32| {
            let cascade = Cascade { name: "c3-mini".to_owned(), compressor, decoder };
            let codec = LatentCodec::Q4_0;
            Arc::new(WritePlan {
                cascade,
                ratio,
                codec,
                verification: None,
                ratios: Arc::default(),
                ttl: None,
                is_searchable: true,
                sketch_key: None,
                compressed: Arc::default(),
            })
        };
        RatioPolicy { steps: ratios.iter().map(step).collect(), bound, bytes }
    }

    #[test]
    fn a_document_is_compared_with_its_bound() {
        let policy = |bound| policy(&[20], bound, 0);
        let arithmetic = String::new();
        let document = Document {
            id: DocumentId::of(b""),
            bytes: 4000,
            tokens: 1000,
            latents: 50,
            ratio: 20,
            codec: LatentCodec::Q4_0,
            verification: Some(Verification {
                tokens_right: 999,
                corrections: 1,
                exact_windows: None,
                margin: 0.0,
                arithmetic,
            }),
            cascade: policy(AutoBound::FidelityMin(1.0)).steps[0].cascade.clone(),
            shards: 1,
            windows: 1,
            stored_bytes: 500,
            created_unix_ms: 0,
            expires_unix_ms: None,
            labels: Default::default(),
            names: Vec::new(),
        };
        let met = |bound| policy(bound).is_met(&document);
        assert!(met(AutoBound::FidelityMin(0.999)) && !met(AutoBound::FidelityMin(0.9991)));
        assert!(met(AutoBound::StoredBytesMax(500)) && !met(AutoBound::StoredBytesMax(499)));
    }
}
