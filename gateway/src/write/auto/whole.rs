//! A text that is one shard: the first step at which it keeps the bound.
//!
//! Pieces of the text are compressed and verified first, and nothing of them is stored. A step that they rule out is not
//! written; one that they leave open is, and what it really costs decides. A small text ends in its manifest, as it does
//! where its ratio is given, and then no try leaves anything behind.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Choice, Sum};
use crate::error::Failure;
use crate::gateway::SharedGateway;
use crate::write::shard::{Keep, WrittenShard, try_shard, write_shard};

/// Pieces that a text is parted into.
const PIECES: usize = 6;
/// How many of them are compressed, over all steps: half of the text.
const PIECES_TRIED_MAX: usize = 3;
/// Fewest bytes of a piece that tells something.
const PIECE_BYTES_MIN: usize = 64;
/// Standard deviations by which pieces must cost too much to rule a step out.
const DEVIATIONS: f64 = 1.5;

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
    let mut tries = PIECES_TRIED_MAX;
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
    // What they leave open is written: a ratio too low would cost the document more than this write does.
    Ok(false)
}

/// Whether what was seen rules a step out; `None` where more must be seen.
fn verdict(seen: &Sum) -> Option<bool> {
    let over = seen.cost - seen.allowance;
    match over <= 0.0 {
        true => Some(false),
        false => (over > DEVIATIONS * seen.cost.sqrt()).then_some(true),
    }
}

/// Pieces of a text, each whole characters, those of the middle first. None where they would tell nothing.
fn pieces(text: &Bytes) -> Vec<Range<usize>> {
    let is_start = |at: usize| text.get(at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let boundary = |part: usize| {
        let at = text.len() * part / PIECES;
        (0..=at).rev().find(|&at| is_start(at)).unwrap_or(0)
    };
    let order: &[usize] = if text.len() / PIECES < PIECE_BYTES_MIN { &[] } else { &[3, 1, 4] };
    order.iter().map(|&part| boundary(part)..boundary(part + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(cost: f64, allowance: f64) -> Sum {
        Sum { cost, allowance, ..Sum::default() }
    }

    #[test]
    fn a_step_is_ruled_out_where_chance_does_not_explain_it() {
        assert_eq!(verdict(&seen(0.0, 0.4)), Some(false));
        assert_eq!(verdict(&seen(1.0, 0.4)), None);
        assert_eq!(verdict(&seen(20.0, 0.4)), Some(true));
    }

    #[test]
    fn pieces_are_whole_characters_of_half_the_text_at_most() {
        let text = Bytes::from("道可道，非常道。".repeat(50));
        let pieces = pieces(&text);
        assert_eq!(pieces.len(), PIECES_TRIED_MAX);
        for piece in &pieces {
            assert!(std::str::from_utf8(&text[piece.clone()]).is_ok_and(|piece| !piece.is_empty()));
        }
        assert!(2 * pieces.iter().map(ExactSizeIterator::len).sum::<usize>() <= text.len() + 3 * PIECES);
        assert!(super::pieces(&Bytes::from_static(b"short")).is_empty());
    }
}
