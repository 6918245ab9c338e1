//! Texts and operations that several modules of the suite use.

use std::ops::Range;

use anyhow::{Result, ensure};
use c3_proto::pb::{self, check_response};
use c3_types::DocumentId;
use tonic::Status;

use crate::harness::gateway_api::GatewayApi;

/// Returns a text of about 200 bytes that differs for each number.
pub fn small_text(number: usize) -> String {
    format!(
        "Letter {number}. The weather in the harbour was fair on day {number}, and the ship with {} barrels left for the \
         north. Nobody on the pier asked for more than {} of them, which the captain noted.\n",
        number * 7 % 1000,
        number * 13 % 500,
    )
}

/// Returns a text of several shards (parts that are compressed and stored on their own) that differs for each number.
pub fn large_text(number: usize) -> String {
    (0..90).map(|line| small_text(number * 1000 + line)).collect()
}

/// Returns a text of one shard that differs for each number. It is too large to be stored in its manifest.
pub fn medium_text(number: usize) -> String {
    (0..20).map(|line| small_text(number * 1000 + line)).collect()
}

/// Returns options for a verified put at 20 text tokens per latent. Without verification, reading the document may
/// fail.
pub fn default_options() -> pb::WriteOptions {
    pb::WriteOptions { ratio: 20, ..Default::default() }
}

/// Collects garbage that is older than a grace period, in seconds.
pub async fn sweep(api: &GatewayApi, grace_seconds: u64) -> Result<pb::SweepResponse, Status> {
    let request = pb::SweepRequest { grace_seconds: Some(grace_seconds) };
    Ok(api.stub().sweep(request).await?.into_inner())
}

/// Deletes a document.
pub async fn delete(api: &GatewayApi, id: &str) -> Result<(), Status> {
    api.stub().delete(pb::DeleteRequest { id: id.into() }).await.map(drop)
}

/// Checks the store like `c3 fsck` and returns the findings. Fails if the stream ends without a summary.
pub async fn fsck(api: &GatewayApi, repair: bool) -> Result<Vec<pb::Finding>> {
    let mut parts = api.stub().check(pb::CheckRequest { repair, with_progress: false }).await?.into_inner();
    let (mut findings, mut summary) = (Vec::new(), None);
    while let Some(message) = parts.message().await? {
        match message.part {
            Some(check_response::Part::Finding(finding)) => findings.push(finding),
            Some(check_response::Part::Summary(counts)) => summary = Some(counts),
            Some(check_response::Part::Progress(_)) | None => {}
        }
    }
    ensure!(summary.is_some(), "the fsck stream ended without a summary");
    Ok(findings)
}

/// Counts the findings that report missing objects, to which a reference dangles.
pub fn dangling(findings: &[pb::Finding]) -> usize {
    findings.iter().filter(|finding| finding.problem.contains("missing")).count()
}

/// Returns true if `id` is the hash of `text` and the byte range `read` of the document matches the text.
pub async fn reads_back(api: &GatewayApi, id: &str, text: &str, read: Range<usize>) -> Result<bool> {
    let got = api.get_range(id, read.start as u64..read.end as u64).await?;
    Ok(got.text == text.as_bytes()[read] && id == DocumentId::of(text.as_bytes()).to_string())
}

/// Deterministic pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Creates a generator. Equal seeds give equal sequences.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number, from 0 to `sides - 1`.
    pub fn below(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}
