//! Chooses which shards to write next, and at which steps. The allocator is a state machine without I/O. The parent
//! module explains the terms *step*, *cost*, *room* and *attempt*.

use bytes::Bytes;
use c3_types::AutoBound;

use super::RatioPolicy;
use crate::state::WrittenShard;

/// Maximum total size of the discarded attempts, as a fraction of the text so far. Above it, no uncertain attempt
/// begins.
const EXTRA_MAX: f64 = 0.1;
/// Blocks of at most this many shards are exempt from [`EXTRA_MAX`], because a single attempt may exceed it.
const FEW_SHARDS: usize = 3;

/// Sums over written shards.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    /// Bytes of text.
    pub(super) bytes: f64,
    pub(super) cost: f64,
    /// Maximum cost at which these shards by themselves would keep the bound.
    pub(super) allowance: f64,
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.cost += other.cost;
        self.allowance += other.allowance;
    }
}

/// Chooses a step for each shard of a document, a block of shards at a time.
pub(super) struct Allocator {
    policy: RatioPolicy,
    /// Sums over all attempts so far.
    total: Totals,
    /// Sums over the attempts at each step.
    attempts: Vec<Totals>,
    /// Sums over the chosen attempts of earlier blocks.
    decided: Totals,
    block: Vec<Shard>,
}

struct Shard {
    text: Bytes,
    /// Result of the attempt at each step; `None` if there was none.
    attempts: Vec<Option<(WrittenShard, Totals)>>,
    chosen: Option<usize>,
}

/// Index of a shard in the block, and the step at which to write it.
pub(super) type Attempt = (usize, usize);

impl Allocator {
    pub(super) fn new(policy: RatioPolicy) -> Self {
        let attempts = vec![Totals::default(); policy.steps.len()];
        Self { policy, total: Totals::default(), attempts, decided: Totals::default(), block: Vec::new() }
    }

    /// Begins a block whose shards have these texts.
    pub(super) fn begin_block(&mut self, texts: Vec<Bytes>) {
        let untried = vec![None; self.attempts.len()];
        let shard = |text| Shard { text, attempts: untried.clone(), chosen: None };
        self.block = texts.into_iter().map(shard).collect();
    }

    pub(super) fn text(&self, shard: usize) -> Bytes {
        self.block[shard].text.clone()
    }

    /// Records the result of an attempt.
    pub(super) fn record(&mut self, (at, step): Attempt, written: WrittenShard) {
        let totals = self.policy.totals(&written.entry);
        self.total.add(totals);
        self.attempts[step].add(totals);
        self.block[at].attempts[step] = Some((written, totals));
    }

    /// Ends the block and returns its chosen attempts in order.
    pub(super) fn end_block(&mut self) -> Vec<WrittenShard> {
        let shards = std::mem::take(&mut self.block).into_iter();
        let chosen = shards.filter_map(|mut shard| shard.attempts[shard.chosen?].take());
        chosen.inspect(|(_, totals)| self.decided.add(*totals)).map(|(written, _)| written).collect()
    }

    /// Returns the attempts to make next; `None` if the block is decided. All must be recorded before the next call.
    pub(super) fn next(&mut self) -> Option<Vec<Attempt>> {
        loop {
            let changes = self.choose().or_else(|| self.step_back()).or_else(|| self.use_room())?;
            for &(at, step) in &changes {
                self.block[at].chosen = Some(step);
            }
            let is_new = |&(at, step): &Attempt| self.block[at].attempts[step].is_none();
            let attempts = Vec::from_iter(changes.into_iter().filter(is_new));
            if !attempts.is_empty() {
                return Some(attempts);
            }
        }
    }

    /// Chooses a step for open shards, which have no step yet. As many shards as there is room for get the *bold* step,
    /// which is the one before the safe step. If there is room for none, all open shards get the safe step. Of these
    /// shards, only half are decided now, or one if the step is untried: the results improve the estimates for the
    /// others.
    fn choose(&self) -> Option<Vec<Attempt>> {
        let mut open = Vec::from_iter((0..self.block.len()).filter(|&at| self.block[at].chosen.is_none()));
        // Smallest shards first, because the first attempts are the most likely to be discarded.
        open.sort_by_key(|&at| self.block[at].text.len());
        let mut step = self.safe_step();
        if let Some(bold) = step.checked_sub(1).filter(|_| self.total.bytes > 0.0) {
            let mut room = self.room(step);
            let more = self.rates(bold).1 - self.rates(step).0;
            let fits = |at: &usize| {
                room -= more * self.bytes(*at);
                room >= 0.0
            };
            let fit = open.iter().copied().take_while(fits).count();
            if fit > 0 {
                step = bold;
                open.truncate(fit);
            }
        }
        open.truncate(if self.attempts[step].bytes > 0.0 { open.len().div_ceil(2) } else { 1 });
        (!open.is_empty()).then(|| open.into_iter().map(|at| (at, step)).collect())
    }

    /// If the bound is broken, moves one shard to a safer step. Chooses the move that reduces the cost most per latent
    /// that it adds or removes.
    fn step_back(&self) -> Option<Vec<Attempt>> {
        let over = Some(-self.room(0)).filter(|&over| over > 0.0)?;
        let value = |&(at, chosen, step): &(usize, usize, usize)| {
            let gain = (self.cost(at, chosen) - self.cost(at, step)).min(over);
            let [from, to] = [chosen, step].map(|step| self.policy.ratio(step).recip());
            gain / ((to - from).abs() * self.bytes(at))
        };
        let moves = self.moves().filter(|&(_, chosen, step)| step > chosen);
        moves.max_by(|a, b| value(a).total_cmp(&value(b))).map(|(at, _, step)| vec![(at, step)])
    }

    /// If there is room, moves one shard to an earlier step. Prefers a step that was tried and whose cost fits into the
    /// room. Otherwise chooses an untried step, if it directly precedes the shard's step and its cost may fit.
    fn use_room(&self) -> Option<Vec<Attempt>> {
        let room = self.room(0);
        let text = self.decided.bytes + (0..self.block.len()).map(|at| self.bytes(at)).sum::<f64>();
        let may_guess = self.block.len() <= FEW_SHARDS || self.total.bytes <= (1.0 + EXTRA_MAX) * text;
        let fits = |&(at, chosen, step): &(usize, usize, usize)| {
            let (cost, is_allowed) = match self.block[at].attempts[step] {
                Some((_, Totals { cost, .. })) => (cost, step < chosen),
                None => (self.rates(step).1 * self.bytes(at), may_guess && step + 1 == chosen),
            };
            is_allowed && cost - self.cost(at, chosen) <= room
        };
        let moves = self.moves().filter(fits).map(|(at, _, step)| (at, step));
        moves.max_by_key(|&(at, step)| self.block[at].attempts[step].is_some()).map(|best| vec![best])
    }

    /// Returns all candidate moves: for each shard of the block and each step, the shard, its chosen step, and the step
    /// to which it would move.
    fn moves(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let steps = 0..self.attempts.len();
        let chosen = self.block.iter().map(|shard| shard.chosen.unwrap_or(0)).enumerate();
        chosen.flat_map(move |(at, chosen)| steps.clone().map(move |step| (at, chosen, step)))
    }

    /// Returns the cost that the bound still allows if open shards get this step. Negative if the bound is broken.
    fn room(&self, step: usize) -> f64 {
        let room = |at: usize| {
            let shard = &self.block[at];
            let allowance = match shard.attempts.iter().flatten().next() {
                Some((_, totals)) => totals.allowance,
                None => self.total.allowance / self.total.bytes.max(1.0) * self.bytes(at),
            };
            allowance - self.cost(at, shard.chosen.unwrap_or(step))
        };
        self.decided.allowance - self.decided.cost + (0..self.block.len()).map(room).sum::<f64>()
    }

    fn bytes(&self, at: usize) -> f64 {
        self.block[at].text.len() as f64
    }

    /// Returns the cost of a shard at a step: the measured cost, or the expected one if the step was not tried.
    fn cost(&self, at: usize, step: usize) -> f64 {
        match &self.block[at].attempts[step] {
            Some((_, totals)) => totals.cost,
            None => self.rates(step).0 * self.bytes(at),
        }
    }

    /// Returns the expected and the lowest plausible cost of a byte of text at a step. Both are estimated from attempts
    /// at the same step, else at the nearest earlier step, else at the nearest later one. Both are 0 before the first
    /// attempt.
    fn rates(&self, step: usize) -> (f64, f64) {
        let mut nearest = (0..=step).rev().chain(step..self.attempts.len());
        let Some(near) = nearest.find(|&near| self.attempts[near].bytes > 0.0) else { return (0.0, 0.0) };
        let Totals { bytes, cost, .. } = self.attempts[near];
        let quotient = self.policy.cost_quotient(near, step);
        let expected = cost / bytes * quotient;
        let certainty = match self.policy.bound {
            // The cost is a count of errors, whose standard deviation is its square root. Errors may also fall by the
            // square of the expected quotient, which is therefore applied once more.
            AutoBound::FidelityMin(_) if near <= step => (1.0 - cost.sqrt().recip()).max(0.0) * quotient,
            _ => 1.0,
        };
        (expected, certainty * expected)
    }

    /// Returns the first step that may keep the bound, else the last one. A step that is merely plausible counts too,
    /// because the next ratio may double the number of latents. Before any attempt, returns the second step: the first
    /// default ratio rarely suffices.
    fn safe_step(&self) -> usize {
        let last = self.attempts.len() - 1;
        let may_keep = |&step: &usize| self.rates(step).1 * self.total.bytes <= self.total.allowance;
        let first = (0..last).find(may_keep).unwrap_or(last);
        if self.total.bytes > 0.0 { first } else { last.min(1) }
    }
}

#[cfg(test)]
mod tests {
    use c3_store::manifest::{Placement, ShardEntry};
    use c3_store::object::version::Version;
    use c3_types::{ShardHash, StageTimes};
    use proptest::prelude::*;

    use super::*;
    use crate::ingest::auto::tests::policy;

    const RATIOS: [u32; 4] = [80, 40, 20, 10];
    const TOKENS: u64 = 2500;

    /// Returns a shard with this many wrong tokens.
    fn written(ratio: u32, wrong: u64) -> WrittenShard {
        let entry = ShardEntry {
            hash: ShardHash::of(b""),
            ratio,
            window_bytes: vec![10_000],
            window_newlines: Vec::new(),
            exact_windows: None,
            tokens: TOKENS,
            latents: TOKENS / u64::from(ratio),
            right: TOKENS - wrong,
            corrections: wrong,
            stored_bytes: TOKENS / u64::from(ratio) * 100,
            import_digest: None,
            placement: Placement::Objects { latents: Version::NONE, corrections: Version::NONE },
        };
        WrittenShard { entry, reused: false, times: StageTimes::default() }
    }

    #[derive(Default)]
    struct Decided {
        wrong: u64,
        latents: u64,
        stored_bytes: u64,
        writes: usize,
    }

    /// Runs the allocator on shards. An element of `shards` has the number of wrong tokens of one shard at each step.
    fn decide(shards: &[[u64; 4]], ratios: &[u32], bound: AutoBound) -> Decided {
        let mut allocator = Allocator::new(policy(ratios, bound, 10_000 * shards.len() as u64));
        let mut decided = Decided::default();
        for block in shards.chunks(32) {
            allocator.begin_block(vec![Bytes::from_static(&[b'a'; 10_000]); block.len()]);
            while let Some(wave) = allocator.next() {
                for (at, step) in wave {
                    decided.writes += 1;
                    allocator.record((at, step), written(ratios[step], block[at][step]));
                }
            }
            let chosen = allocator.end_block();
            assert_eq!(chosen.len(), block.len());
            for WrittenShard { entry, .. } in chosen {
                decided.wrong += entry.tokens - entry.right;
                decided.latents += entry.latents;
                decided.stored_bytes += entry.stored_bytes;
            }
        }
        decided
    }

    fn with_fidelity(shards: &[[u64; 4]], min: f64) -> Decided {
        decide(shards, &RATIOS, AutoBound::FidelityMin(min))
    }

    #[test]
    fn a_typical_text_takes_two_ratios_and_few_extra_writes() {
        // Typical for the default model: 4 % wrong tokens at 80x, 0.2 % at 40x, almost none at lower ratios. At 20x,
        // all shards together have 3750 latents.
        let shards = Vec::from_iter((0..30).map(|i| [100, 3 + i % 5, u64::from(i % 9 == 0), 0]));
        let decided = with_fidelity(&shards, 0.999);
        assert!(decided.wrong <= 75, "{}", decided.wrong);
        assert!(decided.latents < 3750, "{}", decided.latents);
        assert!(decided.writes <= 36, "{}", decided.writes);
    }

    #[test]
    fn one_ratio_serves_all_shards_if_it_is_best() {
        for (min, step) in [(0.95, 0), (0.998, 1), (0.9999, 2)] {
            let decided = with_fidelity(&[[100, 4, 0, 0]; 20], min);
            assert!(decided.latents <= TOKENS / u64::from(RATIOS[step]) * 20, "{min}: {}", decided.latents);
            assert!(decided.writes <= 24, "{min}: {}", decided.writes);
        }
    }

    #[test]
    fn a_bound_that_no_ratio_keeps_takes_the_safest_ratio() {
        let decided = with_fidelity(&[[900, 800, 700, 600]; 8], 0.999);
        assert_eq!((decided.wrong, decided.latents), (4800, 2000));
    }

    #[test]
    fn a_few_shards_keep_the_bound_and_the_best_single_ratio() {
        // The bound allows 2.5 wrong tokens per shard, so 40x is best for some shards and 20x for others.
        for (at_40x, single) in [
            (&[0][..], 62),
            (&[2], 62),
            (&[3], 125),
            (&[60], 125),
            (&[2, 3], 124),
            (&[20, 20], 250),
            (&[2, 20, 2], 375),
            (&[6, 1, 1, 1], 248),
            (&[5, 5, 5, 5], 500),
            (&[60, 60, 60, 60], 500),
        ] {
            let shards = Vec::from_iter(at_40x.iter().map(|&wrong| [100, wrong, wrong / 30, 0]));
            let decided = with_fidelity(&shards, 0.999);
            assert!(decided.wrong * 1000 <= TOKENS * shards.len() as u64, "{at_40x:?}: {}", decided.wrong);
            assert!(decided.latents * 10 <= single * 11, "{at_40x:?}: {}", decided.latents);
            let extra = decided.writes - shards.len();
            assert!(shards.len() < 4 || 5 * extra <= 3 * shards.len(), "{at_40x:?}: {extra}");
        }
    }

    #[test]
    fn stored_bytes_fill_their_bound() {
        // A shard takes 12,500 bytes at 20x, or 3,100 at 80x, and another 100 bytes in the manifest.
        for (max, least) in [(130_000, 125_000), (80_000, 65_000), (33_000, 31_000)] {
            let decided = decide(&[[0; 4]; 10], &[20, 80], AutoBound::StoredBytesMax(max));
            let bytes = decided.stored_bytes;
            assert!(bytes + 1000 <= max && bytes >= least, "{max}: {bytes}");
        }
    }

    proptest! {
        #[test]
        fn the_bound_is_kept_where_it_can_be(
            shards in prop::collection::vec(prop::array::uniform4(0u64..20), 1..70),
            min in 0.99f64..1.0,
        ) {
            let shards = Vec::from_iter(shards.into_iter().map(|mut wrong| {
                wrong.sort_unstable_by(|a, b| b.cmp(a));
                wrong
            }));
            let decided = with_fidelity(&shards, min);
            let allowed = (1.0 - min) * (TOKENS * shards.len() as u64) as f64;
            let best = shards.iter().map(|shard| shard[3]).sum::<u64>() as f64;
            // Decided blocks do not change, so only a text of one block is sure to keep the bound if it can.
            prop_assert!(decided.wrong as f64 <= allowed || best > allowed || shards.len() > 32);
            prop_assert!(decided.writes <= 4 * shards.len());
        }
    }
}
