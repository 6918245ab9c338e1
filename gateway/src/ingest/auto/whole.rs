//! A text that is one shard: the first step at which it keeps the bound.
//!
//! Pieces of it tell which steps need not be written. A small text ends in its manifest, as it does where its ratio is
//! given, and then no try leaves anything behind.

use std::sync::Arc;

use bytes::Bytes;

use super::Choice;
use super::pieces::Pieces;
use crate::error::Failure;
use crate::gateway::SharedGateway;
use crate::write::shard::{Keep, WrittenShard, write_shard};

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
    let mut pieces = Pieces::of_one(&text);
    for step in 0..last {
        let (ruled_out, _) = pieces.rule_out(gateway, choice, step).await?;
        if !ruled_out {
            let written = write(step).await?;
            if choice.is_kept(&written.entry) {
                return Ok(written);
            }
        }
    }
    write(last).await
}
