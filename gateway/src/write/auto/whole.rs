//! A text that is one shard: the first step at which it keeps the bound.
//!
//! Pieces of the text are compressed and verified first, and nothing of them is stored: a step that fails after it was
//! written whole costs more than all of them. They go to a step until they tell, so that the steps which are far from the
//! bound leave most of them to the one that is near it. A step that they do not rule out is written, and what it really
//! costs decides. A small text ends in its manifest, as it does where its ratio is given, and then no try leaves
//! anything behind.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Choice, Sum};
use crate::error::Failure;
use crate::gateway::SharedGateway;
use crate::write::shard::{Keep, WrittenShard, try_shard, write_shard};

/// Pieces that a text is parted into.
const PIECES: usize = 12;
/// Those that are compressed, in this order at each step: half of the text, over all steps.
const TRIED: [usize; 6] = [6, 2, 9, 4, 10, 0];
/// Fewest bytes of a piece that tells something.
const PIECE_BYTES_MIN: usize = 64;
/// Standard deviations from the bound at which pieces tell, and no further ones are needed.
const DEVIATIONS: f64 = 1.5;
/// Standard deviations by which pieces must cost too much to rule a step out where there are no further ones. Less than
/// one: a ratio too low costs the document for ever, a write in vain only once.
const DEVIATIONS_LAST: f64 = 0.75;

/// Writes a text at the first step at which it keeps the bound, or at the last.
pub(super) async fn write_whole(
    gateway: &SharedGateway,
    choice: &Choice,
    text: Bytes,
) -> Result<WrittenShard, Failure> {
    let write = |step: usize| {
        write_shard(Arc::clone(gateway), Arc::clone(&choice.steps[step]), text.clone(), Keep::Inline)
    };
    let last = choice.steps.len() - 1;
    let mut tries = TRIED.len();
    for step in 0..last {
        if !is_ruled_out(gateway, choice, step, &text, &mut tries).await? {
            let written = write(step).await?;
            if choice.is_kept(&written.entry) {
                return Ok(written);
            }
        }
    }
    write(last).await
}

/// Whether pieces of a text tell that it breaks the bound at a step. Takes from `tries` what it compresses.
async fn is_ruled_out(
    gateway: &SharedGateway,
    choice: &Choice,
    step: usize,
    text: &Bytes,
    tries: &mut usize,
) -> Result<bool, Failure> {
    let mut seen = Sum::default();
    for range in pieces(text) {
        if *tries == 0 {
            break;
        }
        *tries -= 1;
        seen.add(choice, &try_shard(gateway, &choice.steps[step], &text.slice(range)).await?);
        if let Some(verdict) = verdict(&seen) {
            return Ok(verdict);
        }
    }
    Ok(seen.cost - seen.allowance > DEVIATIONS_LAST * seen.cost.sqrt())
}

/// Whether what was seen rules a step out; `None` where more must be seen.
fn verdict(seen: &Sum) -> Option<bool> {
    let over = seen.cost - seen.allowance;
    match over > 0.0 {
        true => (over > DEVIATIONS * seen.cost.sqrt()).then_some(true),
        false => (-over > DEVIATIONS * seen.allowance.sqrt()).then_some(false),
    }
}

/// Pieces of a text, each whole characters, in the order in which they are tried. None where they would tell nothing.
fn pieces(text: &Bytes) -> Vec<Range<usize>> {
    let is_start = |at: usize| text.get(at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let boundary = |part: usize| {
        let at = text.len() * part / PIECES;
        (0..=at).rev().find(|&at| is_start(at)).unwrap_or(0)
    };
    let order: &[usize] = if text.len() / PIECES < PIECE_BYTES_MIN { &[] } else { &TRIED };
    order.iter().map(|&part| boundary(part)..boundary(part + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(cost: f64, allowance: f64) -> Sum {
        Sum { cost, allowance, ..Sum::default() }
    }

    #[test]
    fn pieces_tell_where_chance_does_not_explain_what_they_cost() {
        assert_eq!(verdict(&seen(0.0, 0.4)), None);
        assert_eq!(verdict(&seen(1.0, 0.4)), None);
        assert_eq!(verdict(&seen(20.0, 0.4)), Some(true));
        assert_eq!(verdict(&seen(1.0, 9.0)), Some(false));
    }

    #[test]
    fn pieces_are_whole_characters_of_half_the_text_at_most() {
        let text = Bytes::from("道可道，非常道。".repeat(50));
        let pieces = pieces(&text);
        assert_eq!(pieces.len(), TRIED.len());
        for piece in &pieces {
            assert!(std::str::from_utf8(&text[piece.clone()]).is_ok_and(|piece| !piece.is_empty()));
        }
        assert!(2 * pieces.iter().map(ExactSizeIterator::len).sum::<usize>() <= text.len() + 3 * PIECES);
        assert!(super::pieces(&Bytes::from_static(b"short")).is_empty());
    }
}
