//! `ratio: auto`: each shard at a ratio of its own, so that the document keeps a bound.
//!
//! The ratios are steps from the one that is wanted most to the one that is safest: for a bound on fidelity the highest
//! is wanted, for one on stored bytes the lowest. What counts against the bound is summed over the document, so that an
//! easy shard makes room for a hard one. A text is decided a block of shards at a time:
//!
//! 1. One shard tells which step is *safe*, kept to by itself. The step before it is *bold*. Later blocks begin with
//!    what all shards before them have told.
//! 2. Bold is tried on as many shards as there is room for, half of them at a time: what they tell is the next estimate.
//! 3. The rest is safe. If the bound is still broken, a few shards go a step further; if there is room left, a few go a
//!    step back.
//!
//! So hardly any shard is written at more than one ratio. What was tried and not taken stays in the store until a sweep.
//! Of a text that has but a few shards one is too much to try, so [`pieces`] tell where to begin, and each shard is written
//! before the next is decided. A text that is one shard has no others to tell of it, and is decided by pieces alone:
//! [`whole`].

use std::sync::Arc;

use async_stream::try_stream;
use c3_proto::{AutoBound, AutoRatio, WriteOptions, pb};
use futures::{Stream, StreamExt, TryStreamExt, pin_mut, stream};

use super::document::Written;
use super::plan::Plan;
use super::shard::{Keep, WrittenShard, write_shard};
use crate::error::Failure;
use crate::gateway::{Gateway, SharedGateway};
use crate::store::manifest::ShardEntry;
use crate::task;
use crate::text::Part;

mod block;
mod pieces;
mod whole;

use block::Block;
use pieces::Pieces;

/// Shards that are decided together: half a megabyte of text at most.
const BLOCK_SHARDS: usize = 32;
/// Shards of a text of which a whole one is too much to try.
const FEW_SHARDS: usize = 3;
/// Ratios to choose from where the caller names none, as far as the checkpoint takes them.
const RATIOS: [u32; 4] = [10, 20, 40, 80];
/// By how much the share of wrong tokens falls from a ratio to half of it: the default model's falls 2 to 40 times.
const WRONG_FALL: f64 = 5.0;
/// Bytes that a shard takes in the manifest, near enough.
const ENTRY_BYTES: u64 = 100;

/// What is chosen from, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// How a shard is written at each step, the ratio that is wanted most first, the safest last. Never empty.
    steps: Vec<Arc<Plan>>,
    bound: AutoBound,
    /// Size of the text, where it is known.
    bytes: u64,
}

impl Choice {
    /// Checks the ratios against what the checkpoint takes.
    pub(super) async fn new(
        auto: &AutoRatio,
        plan: &Plan,
        options: &WriteOptions,
        gateway: &Gateway,
    ) -> Result<Self, Failure> {
        let served = gateway.nodes.cascade(Some(&plan.cascade.name)).await?;
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
        let step = |&ratio: &u32| {
            let ratio = served.ratios.check(ratio)?;
            Ok::<_, Failure>(Arc::new(Plan { ratio, ..plan.clone() }))
        };
        let steps = ratios.iter().map(step).collect::<Result<_, _>>()?;
        Ok(Self { steps, bound: auto.bound, bytes: options.bytes.unwrap_or(0) })
    }

    /// Whether a document keeps the bound.
    pub(super) fn is_met(&self, document: &pb::Document) -> bool {
        match self.bound {
            AutoBound::FidelityMin(share) => document.tokens_right as f64 >= share * document.tokens as f64,
            AutoBound::StoredBytesMax(most) => document.stored_bytes <= most,
        }
    }

    /// What of a shard counts against the bound.
    fn cost(&self, shard: &ShardEntry) -> f64 {
        match self.bound {
            AutoBound::FidelityMin(_) => (shard.tokens - shard.right) as f64,
            AutoBound::StoredBytesMax(_) => (shard.bytes_at_rest() + ENTRY_BYTES) as f64,
        }
    }

    /// By how much the cost falls from a step to the next, as far as can be said beforehand.
    fn fall(&self, step: usize) -> f64 {
        let [this, next] = [step, step + 1].map(|step| f64::from(self.steps[step].ratio));
        match self.bound {
            AutoBound::FidelityMin(_) => WRONG_FALL.powf((this / next).log2()),
            AutoBound::StoredBytesMax(_) => next / this,
        }
    }

    /// Whether a document of this one shard keeps the bound.
    fn is_kept(&self, shard: &ShardEntry) -> bool {
        self.cost(shard) <= self.allowance(shard)
    }

    /// What a shard adds to what the document may cost.
    fn allowance(&self, shard: &ShardEntry) -> f64 {
        match self.bound {
            AutoBound::FidelityMin(share) => (1.0 - share) * shard.tokens as f64,
            AutoBound::StoredBytesMax(most) => most as f64 * shard.bytes() as f64 / self.bytes.max(1) as f64,
        }
    }
}

/// Sums over shards, as far as they were written.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    bytes: f64,
    cost: f64,
    allowance: f64,
}

impl std::ops::AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.cost += other.cost;
        self.allowance += other.allowance;
    }
}

impl Sum {
    fn add(&mut self, choice: &Choice, shard: &ShardEntry) {
        self.bytes += shard.bytes() as f64;
        self.cost += choice.cost(shard);
        self.allowance += choice.allowance(shard);
    }
}

/// What is known of a document so far.
#[derive(Debug)]
struct Known {
    /// All that was tried at each step.
    tried: Vec<Sum>,
    /// By how much the cost falls from each step to the next, as far as can be said beforehand.
    falls: Vec<f64>,
    /// What was taken, of blocks that are decided.
    taken: Sum,
    /// The step that is safe.
    safe: usize,
}

impl Known {
    fn new(choice: &Choice) -> Self {
        let steps = choice.steps.len();
        let falls = (0..steps - 1).map(|step| choice.fall(step)).collect();
        Self { tried: vec![Sum::default(); steps], falls, taken: Sum::default(), safe: 1.min(steps - 1) }
    }

    /// Whether nothing is known yet.
    fn is_nothing(&self) -> bool {
        !(0..self.tried.len()).any(|step| self.is_tried(step))
    }

    /// Whether a step was tried.
    fn is_tried(&self, step: usize) -> bool {
        self.tried[step].bytes > 0.0
    }

    /// What a byte of text costs at a step, by what was tried at it or, else, at the steps before it.
    fn rate(&self, step: usize) -> Option<f64> {
        let Sum { bytes, cost, .. } = self.tried[step];
        match self.is_tried(step) {
            true => Some(cost / bytes),
            false => step.checked_sub(1).and_then(|before| Some(self.rate(before)? / self.falls[before])),
        }
    }

    /// What it costs where a few shards more than the others tell nothing of the next: dearer, the less was seen.
    fn rate_with_care(&self, step: usize) -> Option<f64> {
        let cost = self.tried[step].cost.max(1.0);
        Some(self.rate(step)? * (1.0 + cost.sqrt().recip()))
    }

    /// What a byte of text adds to what the document may cost.
    fn allowed_rate(&self) -> f64 {
        let (bytes, allowance) =
            self.tried.iter().fold((0.0, 0.0), |(b, a), sum| (b + sum.bytes, a + sum.allowance));
        if bytes > 0.0 { allowance / bytes } else { 0.0 }
    }
}

/// Writes the shards of a text, each at the ratio that is chosen for it, and gives them back in order.
pub(super) fn choose<S>(
    gateway: SharedGateway,
    choice: Choice,
    parts: S,
) -> impl Stream<Item = Result<Written, Failure>> + Send
where
    S: Stream<Item = Result<Part, Failure>> + Send,
{
    try_stream! {
        let mut known = Known::new(&choice);
        let blocks = parts.chunks(BLOCK_SHARDS);
        pin_mut!(blocks);
        while let Some(parts) = blocks.next().await {
            let (mut texts, mut end) = (Vec::new(), None);
            for part in parts {
                match part? {
                    Part::Shard(text) => texts.push(text),
                    Part::Whole(text) => {
                        let shard = whole::write_whole(&gateway, &choice, text).await?;
                        yield Written::Shard(Box::new(shard));
                    }
                    Part::End(hash) => end = Some(hash),
                }
            }
            let mut block = Block::new(&choice, texts);
            if known.is_nothing() && block.texts().len() <= FEW_SHARDS {
                sample(&gateway, &choice, &mut known, &mut block).await?;
            }
            decide(&gateway, &choice, &mut known, &mut block).await?;
            for shard in block.taken() {
                known.taken.add(&choice, &shard.entry);
                yield Written::Shard(Box::new(shard));
            }
            if let Some(hash) = end {
                yield Written::End(hash);
            }
        }
    }
}

/// Takes the first step that pieces of a block leave open for the safe one.
async fn sample(
    gateway: &SharedGateway,
    choice: &Choice,
    known: &mut Known,
    block: &mut Block,
) -> Result<(), Failure> {
    let mut pieces = Pieces::of_few(&block.texts());
    let last = choice.steps.len() - 1;
    known.safe = last;
    for step in 0..last {
        let (ruled_out, seen) = pieces.rule_out(gateway, choice, step).await?;
        known.tried[step] += seen;
        if !ruled_out {
            known.safe = step;
            break;
        }
    }
    block.sampled(known);
    Ok(())
}

/// Writes what a block asks for until it asks for nothing more.
async fn decide(
    gateway: &SharedGateway,
    choice: &Choice,
    known: &mut Known,
    block: &mut Block,
) -> Result<(), Failure> {
    while let Some(wave) = block.next(known) {
        let writes = wave.iter().map(|&(shard, step)| (Arc::clone(&choice.steps[step]), block.text(shard)));
        let written = stream::iter(Vec::from_iter(writes))
            .map(|(plan, text)| task::begin(write_shard(Arc::clone(gateway), plan, text, Keep::Shared)))
            .buffered(gateway.shards_at_once());
        let written: Vec<WrittenShard> = written.try_collect().await?;
        for (write, written) in wave.into_iter().zip(written) {
            known.tried[write.1].add(choice, &written.entry);
            block.wrote(choice, write, written);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use c3_proto::{CascadeName, Fingerprint, LatentCodec};

    use super::*;

    /// These ratios to choose from.
    pub(super) fn choice(ratios: &[u32], bound: AutoBound, bytes: u64) -> Choice {
        let (compressor, decoder) = (Fingerprint::of(b"c"), Fingerprint::of(b"d"));
        let step = |&ratio: &u32| {
            let cascade = CascadeName { name: "c3-mini".to_owned(), compressor, decoder };
            let codec = LatentCodec::Q4_0;
            Arc::new(Plan { cascade, ratio, codec, verification: None, ratios: Arc::default(), ttl: None })
        };
        Choice { steps: ratios.iter().map(step).collect(), bound, bytes }
    }

    #[test]
    fn a_document_is_held_against_its_bound() {
        let document =
            pb::Document { tokens: 1000, tokens_right: 999, stored_bytes: 500, ..Default::default() };
        let met = |bound| choice(&[20], bound, 0).is_met(&document);
        assert!(met(AutoBound::FidelityMin(0.999)) && !met(AutoBound::FidelityMin(0.9991)));
        assert!(met(AutoBound::StoredBytesMax(500)) && !met(AutoBound::StoredBytesMax(499)));
    }
}
