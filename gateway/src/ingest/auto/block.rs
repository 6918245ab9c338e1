//! The shards that are decided together: which one is written next at which step. Writes nothing itself.

use bytes::Bytes;

use super::pieces::explained_by_chance;
use super::{Choice, Known, Sum};
use crate::write::shard::WrittenShard;

/// Shards of a block for each that may be tried a step back on a guess, beside the first.
const SHARDS_TO_A_GUESS: usize = 16;
/// Share of a block's text that may have been written beside once, a guess included.
const EXTRA_MAX: f64 = 0.5;

/// Shards that are decided together.
pub(super) struct Block {
    shards: Vec<Shard>,
    /// Bytes of them that were compressed as pieces, where those tell which step is safe.
    sampled: Option<f64>,
    phase: Phase,
}

struct Shard {
    text: Bytes,
    /// What it became at each step that it was written at.
    tried: Vec<Option<Tried>>,
    /// The step that it takes, as far as things stand.
    taken: Option<usize>,
}

struct Tried {
    shard: WrittenShard,
    sum: Sum,
}

/// What is decided at the moment.
#[derive(Clone, Copy)]
enum Phase {
    /// Which step is safe.
    Settle,
    /// Which shards are bold.
    Bold,
    /// That the rest is safe; one after another where pieces were all that was tried.
    Safe,
    /// Which shards go a step further, for the bound is broken.
    Mend,
    /// Which shards go a step back, for there is room.
    Ease { guesses: usize },
}

/// A shard and the step at which it is to be written.
pub(super) type Write = (usize, usize);

impl Block {
    /// Nothing is decided yet.
    pub(super) fn new(choice: &Choice, texts: Vec<Bytes>) -> Self {
        let untried = || choice.steps.iter().map(|_| None).collect();
        let shards = texts.into_iter().map(|text| Shard { text, tried: untried(), taken: None });
        Self { shards: shards.collect(), sampled: None, phase: Phase::Settle }
    }

    /// Pieces were all that was tried so far, and told which step is safe.
    pub(super) fn sampled(&mut self, known: &Known) {
        self.sampled = Some(known.tried.iter().map(|sum| sum.bytes).sum());
        self.phase = Phase::Safe;
    }

    /// The texts of all shards.
    pub(super) fn texts(&self) -> Vec<Bytes> {
        self.shards.iter().map(|shard| shard.text.clone()).collect()
    }

    /// The text of a shard.
    pub(super) fn text(&self, shard: usize) -> Bytes {
        self.shards[shard].text.clone()
    }

    /// Takes note of what a shard became.
    pub(super) fn wrote(&mut self, choice: &Choice, (shard, step): Write, written: WrittenShard) {
        let mut sum = Sum::default();
        sum.add(choice, &written.entry);
        self.shards[shard].tried[step] = Some(Tried { shard: written, sum });
    }

    /// The shards as they were taken, in order.
    pub(super) fn taken(self) -> impl Iterator<Item = WrittenShard> {
        self.shards.into_iter().filter_map(|mut shard| Some(shard.tried[shard.taken?].take()?.shard))
    }

    /// What is to be written next; `None` once every shard has taken a step.
    pub(super) fn next(&mut self, known: &mut Known) -> Option<Vec<Write>> {
        while !self.shards.is_empty() {
            let (writes, next) = match self.phase {
                Phase::Settle => self.settle(known),
                Phase::Bold => self.bold(known),
                Phase::Safe => self.safe(known),
                Phase::Mend => self.mend(known),
                Phase::Ease { guesses } => self.ease(known, guesses),
            };
            match next {
                Some(phase) => self.phase = phase,
                None if writes.is_empty() => return None,
                None => {}
            }
            let untried = |&(shard, step): &Write| self.shards[shard].tried[step].is_none();
            let writes = Vec::from_iter(writes.into_iter().filter(untried));
            if !writes.is_empty() {
                return Some(writes);
            }
        }
        None
    }

    fn settle(&self, known: &mut Known) -> (Vec<Write>, Option<Phase>) {
        let sample = self.sample();
        loop {
            let allowed = known.allowed_rate();
            if known.rate(known.safe).is_some_and(|rate| rate > allowed) && known.safe + 1 < known.tried.len()
            {
                known.safe += 1;
                continue;
            }
            // The last step is taken whatever it costs.
            let is_last = known.safe + 1 == known.tried.len() && known.safe > 0;
            if !known.is_tried(known.safe) && !is_last {
                return (vec![(sample, known.safe)], Some(Phase::Settle));
            }
            let Some(bold) = known.safe.checked_sub(1) else { break };
            match known.rate(bold) {
                None => return (vec![(sample, bold)], Some(Phase::Settle)),
                Some(rate) if rate <= allowed => known.safe = bold,
                Some(_) => break,
            }
        }
        (Vec::new(), Some(Phase::Bold))
    }

    /// The shard that tells for all: the smallest, for it is written more than once, but no scrap.
    fn sample(&self) -> usize {
        let bytes = |shard: &Shard| shard.text.len();
        let mean = self.shards.iter().map(bytes).sum::<usize>() / self.shards.len();
        let fit = self.shards.iter().enumerate().filter(|(_, shard)| 2 * bytes(shard) >= mean);
        fit.min_by_key(|(_, shard)| bytes(shard)).map_or(0, |(at, _)| at)
    }

    fn bold(&mut self, known: &Known) -> (Vec<Write>, Option<Phase>) {
        let Some(bold) = known.safe.checked_sub(1) else { return (Vec::new(), Some(Phase::Safe)) };
        let mut open = Vec::from_iter((0..self.shards.len()).filter(|&at| self.shards[at].taken.is_none()));
        // What was tried at this step costs nothing more.
        open.sort_by_key(|&at| self.shards[at].tried[bold].is_none());
        let expected = |at: usize, step| self.shards[at].expected_cost(known, step);
        let safe: f64 = open.iter().map(|&at| expected(at, known.safe)).sum();
        let mut room = self.allowance(known) - self.cost(known) - safe;
        let fit = open.iter().take_while(|&&at| {
            let cost = match &self.shards[at].tried[bold] {
                Some(tried) => tried.sum.cost,
                None => known.rate_with_care(bold).unwrap_or(0.0) * self.shards[at].text.len() as f64,
            };
            room -= cost - expected(at, known.safe);
            room >= 0.0
        });
        let fit = fit.count();
        let wave = Vec::from_iter(open.into_iter().take(fit.div_ceil(2)).map(|at| (at, bold)));
        if wave.is_empty() {
            return (wave, Some(Phase::Safe));
        }
        (self.take(wave), Some(Phase::Bold))
    }

    fn safe(&mut self, known: &mut Known) -> (Vec<Write>, Option<Phase>) {
        let mut open = Vec::from_iter((0..self.shards.len()).filter(|&at| self.shards[at].taken.is_none()));
        if open.is_empty() {
            return (Vec::new(), Some(Phase::Mend));
        }
        let is_last = known.safe + 1 == known.tried.len();
        if self.sampled.is_some() && !is_last {
            // The smallest first: if one has to be written again, then one of those.
            open.sort_by_key(|&at| self.shards[at].text.len());
            open.truncate(1);
            if !self.may_fit(known, open[0]) {
                known.safe += 1;
                return (Vec::new(), Some(Phase::Bold));
            }
        }
        let wave = Vec::from_iter(open.into_iter().map(|at| (at, known.safe)));
        (self.take(wave), Some(Phase::Safe))
    }

    /// Whether what is open may yet keep the bound at the safe step, as far as shards written at it tell.
    fn may_fit(&self, known: &Known, next: usize) -> bool {
        let safe = known.safe;
        // What is bolder and too dear would be made safe.
        let taken = |shard: &Shard| match shard.taken? {
            step if step < safe => Some(shard.cost().min(shard.expected_cost(known, safe))),
            _ => Some(shard.cost()),
        };
        let taken: f64 = self.shards.iter().filter_map(taken).sum();
        let open = self.shards.iter().filter(|shard| shard.taken.is_none());
        let sum = |(bytes, cost), shard: &Shard| {
            (bytes + shard.text.len() as f64, cost + shard.expected_cost(known, safe))
        };
        let (unseen, expected) = open.fold((0.0, 0.0), sum);
        // What was seen tells the less of what was not, the smaller it was.
        let variance = expected * (1.0 + unseen / known.tried[safe].bytes.max(1.0));
        let over = known.taken.cost + taken + expected - self.allowance(known);
        let is_seen = self.shards.iter().any(|shard| shard.taken == Some(safe));
        // What may turn out better than it looks is written, unless too much was written twice by then.
        let by_luck = explained_by_chance(over, variance) && self.extra_with(next) <= EXTRA_MAX;
        !is_seen || over <= 0.0 || by_luck
    }

    fn mend(&mut self, known: &Known) -> (Vec<Write>, Option<Phase>) {
        let mut over = self.cost(known) - self.allowance(known);
        if over <= 0.0 {
            let guesses = 1 + self.shards.len() / SHARDS_TO_A_GUESS;
            return (Vec::new(), Some(Phase::Ease { guesses }));
        }
        let further = |at: usize| Some((at, self.shards[at].taken? + 1));
        let further = (0..self.shards.len()).filter_map(further);
        let mut further = Vec::from_iter(further.filter(|&(_, step)| step < known.tried.len()));
        let gain = |&(at, step): &Write| self.shards[at].cost() - self.shards[at].expected_cost(known, step);
        // One that is enough, the smallest such; else the worst.
        let enough = further.iter().copied().filter(|write| gain(write) >= over);
        if let Some(enough) = enough.min_by_key(|&(at, _)| self.shards[at].text.len()) {
            return (self.take(vec![enough]), None);
        }
        further.sort_by(|&(a, _), &(b, _)| self.shards[b].cost().total_cmp(&self.shards[a].cost()));
        let fit = further.iter().take_while(|write| {
            let more = over > 0.0;
            over -= gain(write);
            more
        });
        let count = fit.count();
        // Of a few shards each may be most of the text, and less than expected may be enough.
        further.truncate(if self.sampled.is_some() { 1 } else { count });
        (self.take(further), None)
    }

    fn ease(&mut self, known: &Known, guesses: usize) -> (Vec<Write>, Option<Phase>) {
        let room = self.allowance(known) - self.cost(known);
        let back = |at: usize| Some((at, self.shards[at].taken?.checked_sub(1)?));
        let back = Vec::from_iter((0..self.shards.len()).filter_map(back));
        let more = |&(at, step): &Write| self.shards[at].expected_cost(known, step) - self.shards[at].cost();
        let tried = |&(at, step): &Write| self.shards[at].tried[step].is_some();
        let sure = back.iter().copied().find(|write| tried(write) && more(write) <= room);
        if let Some(sure) = sure {
            return (self.take(vec![sure]), Some(Phase::Ease { guesses }));
        }
        let guessed = |write: &Write| {
            let likely = known.rate(write.1).is_some() && more(write) <= 2.0 * room;
            !tried(write) && likely && self.extra_with(write.0) <= EXTRA_MAX
        };
        let guess = back.into_iter().find(guessed).filter(|_| guesses > 0);
        // It is not taken before it is known.
        guess.map_or((Vec::new(), None), |guess| (vec![guess], Some(Phase::Ease { guesses: guesses - 1 })))
    }

    /// Share of the text that is written beside once, if this shard is written next.
    fn extra_with(&self, next: usize) -> f64 {
        let bytes = |shard: &Shard| shard.text.len() as f64;
        let extra = |(at, shard): (usize, &Shard)| {
            let writes = shard.tried.iter().flatten().count() + usize::from(at == next);
            writes.saturating_sub(1) as f64 * bytes(shard)
        };
        let extra: f64 = self.shards.iter().enumerate().map(extra).sum();
        (self.sampled.unwrap_or(0.0) + extra) / self.shards.iter().map(bytes).sum::<f64>()
    }

    fn take(&mut self, writes: Vec<Write>) -> Vec<Write> {
        for &(shard, step) in &writes {
            self.shards[shard].taken = Some(step);
        }
        writes
    }

    /// What was taken so far costs, blocks before included.
    fn cost(&self, known: &Known) -> f64 {
        known.taken.cost + self.shards.iter().map(Shard::cost).sum::<f64>()
    }

    /// What it may cost together with what is still open.
    fn allowance(&self, known: &Known) -> f64 {
        let of = |shard: &Shard| match shard.tried.iter().flatten().next() {
            Some(tried) => tried.sum.allowance,
            None => known.allowed_rate() * shard.text.len() as f64,
        };
        known.taken.allowance + self.shards.iter().map(of).sum::<f64>()
    }
}

impl Shard {
    /// What it costs as it is taken.
    fn cost(&self) -> f64 {
        let taken = self.taken.and_then(|step| self.tried[step].as_ref());
        taken.map_or(0.0, |tried| tried.sum.cost)
    }

    /// What it costs at a step, or is likely to.
    fn expected_cost(&self, known: &Known, step: usize) -> f64 {
        match &self.tried[step] {
            Some(tried) => tried.sum.cost,
            None => known.rate(step).unwrap_or(0.0) * self.text.len() as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use c3_proto::{AutoBound, ShardHash};
    use proptest::prelude::*;

    use super::*;
    use crate::store::manifest::{Place, ShardEntry};
    use crate::store::stamp::Stamp;
    use crate::write::auto::tests::choice;
    use crate::write::shard::StageTimes;

    const RATIOS: [u32; 4] = [80, 40, 20, 10];
    const TOKENS: u64 = 2500;

    /// A shard of which so many tokens are wrong at a ratio.
    fn written(ratio: u32, wrong: u64) -> WrittenShard {
        let entry = ShardEntry {
            hash: ShardHash::of(b""),
            ratio,
            window_bytes: vec![10_000],
            tokens: TOKENS,
            latents: TOKENS / u64::from(ratio),
            right: TOKENS - wrong,
            corrections: wrong,
            stored_bytes: 0,
            outside: None,
            place: Place::Objects { latents: Stamp::NONE, corrections: Stamp::NONE },
        };
        WrittenShard { entry, reused: false, times: StageTimes::default() }
    }

    struct Outcome {
        wrong: u64,
        latents: u64,
        writes: usize,
    }

    /// Decides over shards of which so many tokens are wrong at each step.
    fn decide(shards: &[[u64; 4]], share: f64) -> Outcome {
        decide_from(shards, share, None)
    }

    /// The same, where pieces told which step is safe.
    fn decide_from(shards: &[[u64; 4]], share: f64, safe: Option<usize>) -> Outcome {
        let choice = choice(&RATIOS, AutoBound::FidelityMin(share), 0);
        let (mut known, mut outcome) = (Known::new(&choice), Outcome { wrong: 0, latents: 0, writes: 0 });
        for shards in shards.chunks(32) {
            let texts = shards.iter().map(|_| Bytes::from_static(&[b'a'; 10_000])).collect();
            let mut block = Block::new(&choice, texts);
            if let Some(safe) = safe {
                known.safe = safe;
                block.sampled(&known);
            }
            while let Some(wave) = block.next(&mut known) {
                for (shard, step) in wave {
                    outcome.writes += 1;
                    let written = written(RATIOS[step], shards[shard][step]);
                    known.tried[step].add(&choice, &written.entry);
                    block.wrote(&choice, (shard, step), written);
                }
            }
            let taken = Vec::from_iter(block.taken());
            assert_eq!(taken.len(), shards.len());
            for shard in taken {
                known.taken.add(&choice, &shard.entry);
                outcome.wrong += shard.entry.tokens - shard.entry.right;
                outcome.latents += shard.entry.latents;
            }
        }
        outcome
    }

    /// Latents at the best ratio for all of them that keeps the bound.
    fn best_single(shards: &[[u64; 4]], share: f64) -> Option<u64> {
        let may = (1.0 - share) * (TOKENS * shards.len() as u64) as f64;
        let keeps = |step: &usize| shards.iter().map(|shard| shard[*step]).sum::<u64>() as f64 <= may;
        let step = (0..4).find(keeps)?;
        Some(TOKENS / u64::from(RATIOS[step]) * shards.len() as u64)
    }

    #[test]
    fn the_usual_text_takes_two_ratios_and_little_more_work() {
        // As the default model has it: 4 % wrong at 80x, 0.2 % at 40x, next to nothing below.
        let shards = Vec::from_iter((0..30).map(|i| [100, 3 + i % 5, u64::from(i % 9 == 0), 0]));
        let outcome = decide(&shards, 0.999);
        assert!(outcome.wrong <= 75, "{}", outcome.wrong);
        assert!(outcome.latents < best_single(&shards, 0.999).unwrap(), "{}", outcome.latents);
        assert!(outcome.writes <= 36, "{}", outcome.writes);
    }

    #[test]
    fn one_ratio_for_all_where_that_is_best() {
        for (share, step) in [(0.95, 0), (0.998, 1), (0.9999, 2)] {
            let shards = [[100, 4, 0, 0]; 20];
            let outcome = decide(&shards, share);
            assert!(outcome.latents <= TOKENS / u64::from(RATIOS[step]) * 20, "{share}: {}", outcome.latents);
            assert!(outcome.writes <= 24, "{share}: {}", outcome.writes);
        }
    }

    #[test]
    fn what_no_ratio_keeps_takes_the_safest() {
        let outcome = decide(&[[900, 800, 700, 600]; 8], 0.999);
        assert_eq!((outcome.wrong, outcome.latents), (4800, 2000));
    }

    #[test]
    fn of_a_few_shards_the_first_tell_of_the_others() {
        // As pieces had it, 40x would do; a wrong token in a thousand is allowed.
        for (at_40x, latents, writes) in [
            (&[2, 3][..], 124, 2),
            (&[5, 4], 187, 2),
            (&[20, 20], 250, 3),
            (&[20, 20, 20], 375, 4),
            (&[2, 20, 2], 312, 4),
            (&[4, 60], 187, 3),
            (&[4, 1, 1], 186, 3),
        ] {
            let shards = Vec::from_iter(at_40x.iter().map(|&wrong| [100, wrong, 0, 0]));
            let outcome = decide_from(&shards, 0.999, Some(1));
            assert!(outcome.wrong * 1000 <= TOKENS * shards.len() as u64, "{at_40x:?}: {}", outcome.wrong);
            assert_eq!((outcome.latents, outcome.writes), (latents, writes), "{at_40x:?}");
        }
    }

    proptest! {
        #[test]
        fn the_bound_is_kept_where_it_can_be(
            shards in prop::collection::vec(prop::array::uniform4(0u64..20), 1..70),
            share in 0.99f64..1.0,
        ) {
            let shards = Vec::from_iter(shards.into_iter().map(|mut wrong| {
                wrong.sort_unstable_by(|a, b| b.cmp(a));
                wrong
            }));
            let outcome = decide(&shards, share);
            let may = (1.0 - share) * (TOKENS * shards.len() as u64) as f64;
            let best = shards.iter().map(|shard| shard[3]).sum::<u64>() as f64;
            // Blocks that are decided stay, so only a text of one block is sure to keep what it can.
            prop_assert!(outcome.wrong as f64 <= may || best > may || shards.len() > 32);
            prop_assert!(outcome.writes <= 4 * shards.len());
        }
    }
}
