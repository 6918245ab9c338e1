//! Pieces of a text: what they cost at a step tells what the text would.
//!
//! They are compressed and verified, and nothing of them is stored. A step that they rule out need not be written; one
//! that they leave open is, and what it really costs decides.

use std::ops::Range;

use bytes::Bytes;

use super::{Choice, Sum};
use crate::error::Failure;
use crate::gateway::SharedGateway;
use crate::write::shard::try_shard;

/// How many pieces are compressed, over all steps.
const TRIES: usize = 3;
/// What of a text that is one shard a piece is.
const PART_OF_ONE: usize = 6;
/// What of a text of a few shards a piece is. Less, for there a shard that is written tells of those that are not.
const PART_OF_FEW: usize = 30;
/// Fewest bytes of a piece that tells something.
const BYTES_MIN: usize = 64;
/// Standard deviations by which a cost must be too high for chance not to explain it.
const DEVIATIONS: f64 = 1.5;

/// Pieces of a text, and how many may still be compressed.
pub(super) struct Pieces {
    texts: Vec<Bytes>,
    tries: usize,
}

impl Pieces {
    /// Of a text that is one shard: half of it at most. None where they would tell nothing.
    pub(super) fn of_one(text: &Bytes) -> Self {
        let bytes = text.len() / PART_OF_ONE;
        Self::new([3, 1, 4].map(|part| piece(text, bytes * part, bytes)), bytes)
    }

    /// Of the shards of a text, one that has a few: of their middles, a tenth of the text at most.
    pub(super) fn of_few(shards: &[Bytes]) -> Self {
        let bytes = shards.iter().map(Bytes::len).sum::<usize>() / PART_OF_FEW;
        let around = |shard: &Bytes, round: usize| {
            // The second round lies beside the first.
            let at = (shard.len() / 2 + round * bytes).min(shard.len().saturating_sub(bytes));
            piece(shard, at, bytes)
        };
        let rounds = (0..TRIES).flat_map(|round| shards.iter().map(move |shard| around(shard, round)));
        Self::new(rounds.take(TRIES), bytes)
    }

    fn new(texts: impl IntoIterator<Item = Bytes>, bytes: usize) -> Self {
        let texts = if bytes < BYTES_MIN { Vec::new() } else { Vec::from_iter(texts) };
        Self { texts, tries: TRIES }
    }

    /// Whether they tell that the text breaks the bound at a step; and what of them was seen there.
    pub(super) async fn rule_out(
        &mut self,
        gateway: &SharedGateway,
        choice: &Choice,
        step: usize,
    ) -> Result<(bool, Sum), Failure> {
        let mut seen = Sum::default();
        for text in &self.texts {
            if self.tries == 0 {
                break;
            }
            self.tries -= 1;
            seen.add(choice, &try_shard(gateway, &choice.steps[step], text).await?);
            match seen.verdict() {
                Verdict::Open => {}
                verdict => return Ok((verdict == Verdict::Broken, seen)),
            }
        }
        // What they leave open is written: a ratio too low would cost the document more than this write does.
        Ok((false, seen))
    }
}

/// What a part of a text says of a bound on all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Kept,
    /// Too dear, but chance might explain it.
    Open,
    Broken,
}

impl Sum {
    /// Whether what was summed is within what it may cost.
    fn verdict(&self) -> Verdict {
        match self.cost - self.allowance {
            over if over <= 0.0 => Verdict::Kept,
            over if explained_by_chance(over, self.cost) => Verdict::Open,
            _ => Verdict::Broken,
        }
    }
}

/// Whether what is `over` the allowance may be an accident. The variance of a cost that was seen is the cost itself.
pub(super) fn explained_by_chance(over: f64, variance: f64) -> bool {
    over <= DEVIATIONS * variance.sqrt()
}

/// About `bytes` bytes of a text from `at` on, whole characters.
fn piece(text: &Bytes, at: usize, bytes: usize) -> Bytes {
    let is_start = |at: usize| text.get(at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|&at| is_start(at)).unwrap_or(0);
    let Range { start, end } = boundary(at)..boundary(at + bytes);
    text.slice(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_ruled_out_where_chance_does_not_explain_it() {
        let seen = |cost, allowance| Sum { cost, allowance, ..Sum::default() }.verdict();
        assert_eq!(seen(0.0, 0.4), Verdict::Kept);
        assert_eq!(seen(1.0, 0.4), Verdict::Open);
        assert_eq!(seen(20.0, 0.4), Verdict::Broken);
    }

    #[test]
    fn pieces_are_whole_characters_of_so_much_of_the_text_at_most() {
        let text = |times| Bytes::from("道可道，非常道。".repeat(times));
        let whole = text(50);
        for (pieces, all, part) in [
            (Pieces::of_one(&whole), whole.len(), 2),
            (Pieces::of_few(&[text(100), text(200)]), 300 * whole.len() / 50, 10),
            (Pieces::of_few(&[text(100), text(200), text(90)]), 390 * whole.len() / 50, 10),
        ] {
            assert_eq!(pieces.texts.len(), TRIES);
            for piece in &pieces.texts {
                assert!(std::str::from_utf8(piece).is_ok_and(|piece| !piece.is_empty()));
            }
            let bytes = pieces.texts.iter().map(Bytes::len).sum::<usize>();
            assert!(part * bytes <= all + 4 * TRIES * part, "{bytes} of {all}");
        }
        assert!(Pieces::of_one(&Bytes::from_static(b"short")).texts.is_empty());
    }
}
