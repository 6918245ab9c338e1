//! What the store's proofs have in common: texts, and calls of upkeep.

use std::ops::Range;

use anyhow::{Result, ensure};
use c3_proto::DocumentId;
use c3_proto::pb::{self, check_response};
use tonic::Status;

use crate::calls::Calls;

/// A text of about 200 bytes, unlike any with another number.
pub fn small_text(number: usize) -> String {
    format!(
        "Letter {number}. The weather in the harbour was fair on day {number}, and the ship with {} barrels left for the \
         north. Nobody on the pier asked for more than {} of them, which the captain noted.\n",
        number * 7 % 1000,
        number * 13 % 500,
    )
}

/// A text of several shards, unlike any with another number.
pub fn large_text(number: usize) -> String {
    (0..90).map(|line| small_text(number * 1000 + line)).collect()
}

/// A text of one shard that is too large for its manifest, unlike any with another number.
pub fn objects_text(number: usize) -> String {
    (0..20).map(|line| small_text(number * 1000 + line)).collect()
}

/// How a proof writes: verified, for a text that is not may come back wrong by the model's fault.
pub fn written() -> pb::WriteOptions {
    pb::WriteOptions { ratio: 20, ..Default::default() }
}

/// Sweeps with this grace.
pub async fn sweep(calls: &Calls, grace_seconds: u64) -> Result<pb::SweepResponse, Status> {
    let request = pb::SweepRequest { grace_seconds: Some(grace_seconds) };
    Ok(calls.raw().sweep(request).await?.into_inner())
}

/// Deletes a document.
pub async fn delete(calls: &Calls, id: &str) -> Result<(), Status> {
    calls.raw().delete(pb::DeleteRequest { id: id.into() }).await.map(drop)
}

/// What a check finds.
pub async fn check(calls: &Calls, repair: bool) -> Result<Vec<pb::Finding>> {
    let mut parts = calls.raw().check(pb::CheckRequest { repair }).await?.into_inner();
    let (mut findings, mut summary) = (Vec::new(), None);
    while let Some(message) = parts.message().await? {
        match message.part {
            Some(check_response::Part::Finding(finding)) => findings.push(finding),
            Some(check_response::Part::Summary(counts)) => summary = Some(counts),
            None => {}
        }
    }
    ensure!(summary.is_some(), "the check broke off");
    Ok(findings)
}

/// How many findings tell of something that is referred to and missing.
pub fn dangling(findings: &[pb::Finding]) -> usize {
    findings.iter().filter(|finding| finding.problem.contains("missing")).count()
}

/// Whether a text is stored under its own hash, and these bytes of it come back.
pub async fn is_there(calls: &Calls, id: &str, text: &str, read: Range<usize>) -> Result<bool> {
    let got = calls.get_range(id, read.start as u64..read.end as u64).await?;
    Ok(got.text == text.as_bytes()[read] && id == DocumentId::of(text.as_bytes()).to_string())
}

/// Numbers that look random and follow from a seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number under `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}
