//! `ratio: auto`: chooses a ratio for each shard, so that the document keeps a bound on fidelity or on stored bytes.
//!
//! The candidate ratios are ordered from the preferred to the safest: downwards for a bound on fidelity, upwards for
//! one on stored bytes. The position of a ratio in this order is its *step*. The *cost* of a shard is the number of
//! its wrong tokens, or of its stored bytes. Costs are summed over the document, so an easy shard makes room for a
//! hard one. [`allocator`] decides which shard to write at which step. Discarded attempts stay in the store
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

/// Maximum number of shards decided together. They hold half a megabyte of text at most.
const BLOCK_SHARDS: usize = 32;
/// Candidates if the caller names none. Those that the checkpoint does not support are left out.
const RATIOS: [u32; 4] = [10, 20, 40, 80];
/// Typical factor between the numbers of wrong tokens at a ratio and at half of it. The default model's is 2 to 100.
const ERROR_FALL: f64 = 10.0;
/// Estimated size of a shard's entry in the manifest.
const ENTRY_BYTES: u64 = 100;

/// Candidate ratios of a document and the bound that it must keep.
#[derive(Clone, Debug)]
pub(crate) struct RatioPolicy {
    /// Settings of a shard at each step. Never empty.
    steps: Vec<Arc<WritePlan>>,
    bound: AutoBound,
    /// Size of the text. Known wherever the bound is on stored bytes.
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

    /// Returns whether the document keeps the bound.
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

    /// Returns the expected quotient of the costs of a shard at two steps.
    fn cost_quotient(&self, from: usize, to: usize) -> f64 {
        match self.bound {
            AutoBound::FidelityMin(_) => ERROR_FALL.powf((self.ratio(to) / self.ratio(from)).log2()),
            AutoBound::StoredBytesMax(_) => self.ratio(from) / self.ratio(to),
        }
    }
}

/// Writes the shards of a text at the chosen ratios and returns them in order.
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

    /// Returns a policy with these steps.
    pub(super) fn policy(ratios: &[u32], bound: AutoBound, bytes: u64) -> RatioPolicy {
        let (compressor, decoder) = (Fingerprint::of(b"c"), Fingerprint::of(b"d"));
        let step = |&ratio: &u32| {
            let cascade = Cascade { name: "c3-mini".to_owned(), compressor, decoder };
            let codec = LatentCodec::Q4_0;
            Arc::new(WritePlan { cascade, ratio, codec, verification: None, ratios: Arc::default(), ttl: None })
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
            verification: Some(Verification { tokens_right: 999, corrections: 1, margin: 0.0, arithmetic }),
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
