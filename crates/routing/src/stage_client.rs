//! The four things that are asked of nodes. Every answer is checked against its question before it counts.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use c3_proto::{Corrections, Fingerprint, LatentCodec, LatentGroup, Stage, WindowHash, pb};
use futures::stream;
use tonic::Streaming;

use super::tries::Fault;
use super::{Answer, Need, Node, Nodes};
use crate::error::Failure;
use crate::store::shard::{WindowCorrections, WindowLatents};

/// Bytes of text to a token, near enough for balancing.
const BYTES_TO_A_TOKEN: u64 = 4;

/// A shard to compress.
#[derive(Clone, Debug)]
pub(crate) struct CompressJob<'a> {
    pub(crate) compressor: Fingerprint,
    pub(crate) text: &'a Bytes,
    pub(crate) ratio: u32,
    pub(crate) codec: LatentCodec,
    pub(crate) tokens: TokenIds,
}

/// Whether token ids are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenIds {
    Wanted,
    NotWanted,
}

/// A window as a compressor makes it.
#[derive(Clone, Debug)]
pub(crate) struct CompressedWindow {
    pub(crate) latents: WindowLatents,
    /// Empty where they were not asked for.
    pub(crate) token_ids: Vec<u32>,
}

/// Windows of a shard to verify.
#[derive(Clone, Debug)]
pub(crate) struct VerifyJob<'a> {
    pub(crate) decoder: Fingerprint,
    pub(crate) arithmetic: &'a str,
    pub(crate) margin: f32,
    pub(crate) windows: Vec<(&'a WindowLatents, Vec<u32>)>,
}

/// A window to write back.
#[derive(Clone, Debug)]
pub(crate) struct ReconstructJob<'a> {
    pub(crate) group: &'a LatentGroup,
    pub(crate) corrections: Option<&'a Corrections>,
    /// Bytes that the text must have.
    pub(crate) bytes: u64,
}

/// A prompt to answer about a window.
#[derive(Clone, Debug)]
pub(crate) struct GenerateJob<'a> {
    pub(crate) decoder: Fingerprint,
    pub(crate) group: &'a LatentGroup,
    pub(crate) prompt: &'a str,
    /// 0: as in the published code.
    pub(crate) tokens_max: u32,
}

/// Most bytes of an answer to a prompt.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

impl Nodes {
    /// Compresses a shard. The windows cover it, in order.
    pub(crate) async fn compress(
        &self,
        job: CompressJob<'_>,
    ) -> Result<Answer<Vec<CompressedWindow>>, Failure> {
        let need =
            Need { stage: Stage::Compressor, fingerprint: job.compressor, arithmetic: None, avoid: &[] };
        let tokens = job.text.len() as u64 / BYTES_TO_A_TOKEN;
        self.call(need, "Compress", tokens, |node| compress_on(node, &job)).await
    }

    /// Verifies windows of a shard.
    pub(crate) async fn verify(&self, job: VerifyJob<'_>) -> Result<Answer<Vec<WindowCorrections>>, Failure> {
        let need = Need {
            stage: Stage::Decoder,
            fingerprint: job.decoder,
            arithmetic: Some(job.arithmetic),
            avoid: &[],
        };
        let tokens = job.windows.iter().map(|(window, _)| u64::from(window.group.tokens())).sum();
        self.call(need, "Verify", tokens, |node| verify_on(node, &job)).await
    }

    /// Writes a window's text back. Whether it is the right one is for the caller to prove.
    pub(crate) async fn reconstruct(
        &self,
        need: Need<'_>,
        job: ReconstructJob<'_>,
    ) -> Result<Answer<Bytes>, Failure> {
        let request = pb::DecodeRequest {
            window: 0,
            group: Some(job.group.to_wire()),
            task: Some(pb::decode_request::Task::Reconstruct(pb::Reconstruct {
                corrections: job.corrections.map(Corrections::to_wire),
            })),
        };
        let tokens = u64::from(job.group.tokens());
        let ask = |node| decode_on(node, request.clone(), job.bytes);
        self.call(need, "Decode", tokens, ask).await
    }

    /// Answers a prompt about a window.
    pub(crate) async fn generate(&self, job: GenerateJob<'_>) -> Result<Answer<Bytes>, Failure> {
        let need = Need { stage: Stage::Decoder, fingerprint: job.decoder, arithmetic: None, avoid: &[] };
        let generate = pb::Generate { prompt: job.prompt.to_owned(), tokens_max: job.tokens_max };
        let request = pb::DecodeRequest {
            window: 0,
            group: Some(job.group.to_wire()),
            task: Some(pb::decode_request::Task::Generate(generate)),
        };
        let tokens = u64::from(job.group.tokens());
        let ask = |node| decode_on(node, request.clone(), ANSWER_BYTES_MAX);
        let answer = self.call(need, "Decode", tokens, ask).await?;
        if answer.value.len() as u64 > ANSWER_BYTES_MAX {
            return Err(Failure::Internal(format!("{} wrote an answer without end", answer.node.address)));
        }
        Ok(answer)
    }
}

async fn compress_on(node: Arc<Node>, job: &CompressJob<'_>) -> Result<Vec<CompressedWindow>, Fault> {
    let request = pb::CompressRequest {
        shard: 0,
        text: job.text.clone(),
        ratio: job.ratio,
        codec: job.codec.to_wire(),
        with_token_ids: job.tokens == TokenIds::Wanted,
    };
    let answer = node.compressor().compress(stream::iter([request])).await?;
    let mut answers: Streaming<pb::CompressResponse> = answer.into_inner();
    let (mut windows, mut end, mut count) = (Vec::new(), 0, 0);
    while let Some(answer) = answers.message().await? {
        count = answer.windows;
        if answer.window as usize != windows.len() || answer.start != end {
            return Err(Fault::Wrong("its windows do not follow one another".to_owned()));
        }
        end = answer.end;
        windows.push(job.check(answer)?);
    }
    if end != job.text.len() as u64 || count as usize != windows.len() {
        return Err(Fault::Wrong("its windows do not cover the shard".to_owned()));
    }
    Ok(windows)
}

impl CompressJob<'_> {
    fn check(&self, answer: pb::CompressResponse) -> Result<CompressedWindow, Fault> {
        let bytes = answer.start as usize..answer.end as usize;
        let text = self.text.get(bytes).filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| Fault::Wrong("a window is not within the shard".to_owned()))?;
        let group = LatentGroup::from_wire(answer.group.unwrap_or_default());
        let group = group.map_err(|invalid| Fault::Wrong(invalid.to_string()))?;
        if (group.compressor(), group.ratio(), group.codec()) != (self.compressor, self.ratio, self.codec) {
            return Err(Fault::Wrong("its latents are not what was asked for".to_owned()));
        }
        let given = answer.token_ids.len();
        if self.tokens == TokenIds::Wanted && given != group.tokens() as usize {
            return Err(Fault::Wrong(format!("{given} token ids for {} tokens", group.tokens())));
        }
        // Within a shard, so within 32 bits.
        let bytes: Range<u32> = answer.start as u32..answer.end as u32;
        let latents = WindowLatents { bytes, group, hash: WindowHash::of(text) };
        Ok(CompressedWindow { latents, token_ids: answer.token_ids })
    }
}

async fn verify_on(node: Arc<Node>, job: &VerifyJob<'_>) -> Result<Vec<WindowCorrections>, Fault> {
    let request = |(number, (window, token_ids)): (usize, &(&WindowLatents, Vec<u32>))| pb::VerifyRequest {
        window: number as u64,
        group: Some(window.group.to_wire()),
        token_ids: token_ids.clone(),
        margin: job.margin,
    };
    let requests = Vec::from_iter(job.windows.iter().enumerate().map(request));
    let mut answers = node.decoder().verify(stream::iter(requests)).await?.into_inner();
    let mut verified = vec![None; job.windows.len()];
    while let Some(answer) = answers.message().await? {
        let number = answer.window as usize;
        let Some((window, _)) = job.windows.get(number) else {
            return Err(Fault::Wrong(format!("it verified a window {number} that was not given")));
        };
        verified[number] = Some(check_verdict(window, answer)?);
    }
    let all = verified.into_iter().collect::<Option<Vec<_>>>();
    all.ok_or_else(|| Fault::Wrong("it did not verify every window".to_owned()))
}

fn check_verdict(window: &WindowLatents, answer: pb::VerifyResponse) -> Result<WindowCorrections, Fault> {
    let tokens = window.group.tokens();
    if answer.hash.as_ref() != window.hash.as_bytes() {
        // The tokens are a compressor's.
        return Err(Fault::Disputed("the window's tokens stand for other bytes than the window".to_owned()));
    }
    let corrections = Corrections::from_wire(&answer.corrections.unwrap_or_default(), tokens);
    let corrections = corrections.map_err(|invalid| Fault::Wrong(invalid.to_string()))?;
    if u64::from(answer.right) + (corrections.as_slice().len() as u64) < u64::from(tokens)
        || answer.right > tokens
    {
        return Err(Fault::Wrong(format!(
            "{} tokens right of {tokens} contradicts its corrections",
            answer.right
        )));
    }
    Ok(WindowCorrections { tokens, right: answer.right, corrections })
}

/// The text of a window; what goes past `bytes_max` is not read.
async fn decode_on(node: Arc<Node>, request: pb::DecodeRequest, bytes_max: u64) -> Result<Bytes, Fault> {
    let mut answers = node.decoder().decode(stream::iter([request])).await?.into_inner();
    let (mut text, mut last) = (Vec::new(), false);
    while let Some(piece) = answers.message().await? {
        text.extend_from_slice(&piece.text);
        last = piece.last;
        if text.len() as u64 > bytes_max {
            // Longer than the right text: for whoever proves it to refuse.
            return Ok(text.into());
        }
    }
    if last { Ok(text.into()) } else { Err(Fault::Wrong("its answer broke off".to_owned())) }
}
