//! Clients of the two stages: compress, verify, reconstruct and generate. They check every answer except decoded text.
//!
//! A shard is a part of a document that one node compresses as a unit. The compressor splits it into windows and makes
//! one latent group of each. Corrections are tokens that a decoder is forced to write when it restores a window.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use c3_proto::{FromWire, ToWire, pb};
use c3_types::{
    Corrections, Fingerprint, LatentCodec, LatentGroup, Stage, WindowCorrections, WindowHash, WindowLatents,
};
use futures::stream;
use tonic::Streaming;

use crate::backlog::{Demand, Phase};
use crate::error::Error;
use crate::node::{Node, NodeSelector};
use crate::retry::AttemptError;
use crate::router::Router;

/// Estimated bytes of text per token, for balancing only. The node counts the actual tokens.
const BYTES_PER_TOKEN: u64 = 4;
/// Maximum length of a generated answer in bytes.
const GENERATED_BYTES_MAX: u64 = 1 << 20;

/// A shard to compress.
#[derive(Clone, Debug)]
pub struct CompressJob<'a> {
    /// Fingerprint of the compressor.
    pub compressor: Fingerprint,
    /// Text of the shard.
    pub text: &'a Bytes,
    /// Text tokens per latent.
    pub ratio: u32,
    /// Encoding of the latents.
    pub codec: LatentCodec,
    /// Fingerprint of the decoder that will verify the windows, if any. The answer then includes the text's token ids,
    /// which verification needs, and the decoders' backlog counts the shard while the compressor works on it. Decoders
    /// can thus be added before the work reaches them.
    pub verified_by: Option<Fingerprint>,
}

/// A compressed window.
#[derive(Clone, Debug)]
pub struct CompressedWindow {
    /// Latents of the window.
    pub latents: WindowLatents,
    /// Token ids of the text; empty if the windows will not be verified.
    pub token_ids: Vec<u32>,
}

/// Windows of a shard to verify.
#[derive(Clone, Debug)]
pub struct VerifyJob<'a> {
    /// Fingerprint of the decoder.
    pub decoder: Fingerprint,
    /// Name of the arithmetic (order and precision of computation) that the decoder must have. Its corrections are
    /// guaranteed only for decoders with the same arithmetic.
    pub arithmetic: &'a str,
    /// Minimum lead of a true token's logit over the largest other logit. A token with a smaller lead needs a
    /// correction.
    pub margin: f32,
    /// Latents and token ids of each window.
    pub windows: Vec<(&'a WindowLatents, Vec<u32>)>,
}

/// A window to reconstruct.
#[derive(Clone, Debug)]
pub struct ReconstructJob<'a> {
    /// Latents of the window.
    pub group: &'a LatentGroup,
    /// Corrections to force; `None` if the window was not verified.
    pub corrections: Option<&'a Corrections>,
    /// Expected length of the text in bytes. Reading stops once the node has sent more.
    pub bytes: u64,
}

/// A prompt about a window.
#[derive(Clone, Debug)]
pub struct GenerateJob<'a> {
    /// Fingerprint of the decoder.
    pub decoder: Fingerprint,
    /// Latents of the window.
    pub group: &'a LatentGroup,
    /// The prompt.
    pub prompt: &'a str,
    /// Maximum tokens of the answer; 0 selects 4096, the default of the published C3 code.
    pub tokens_max: u32,
}

/// Response of a stage.
#[derive(Debug)]
pub struct StageResponse<T> {
    /// The checked answer.
    pub value: T,
    /// The node that answered.
    pub node: Arc<Node>,
    /// Latency of the successful attempt.
    pub latency: Duration,
}

impl Router {
    /// Compresses a shard. The returned windows cover the shard, in order.
    pub async fn compress(&self, job: CompressJob<'_>) -> Result<StageResponse<Vec<CompressedWindow>>, Error> {
        let stage = Stage::Compressor;
        let selector = NodeSelector { stage, fingerprint: job.compressor, arithmetic: None, exclude: &[] };
        let tokens = job.text.len() as u64 / BYTES_PER_TOKEN;
        let verification = job.verified_by.map(|fingerprint| Demand {
            stage: Stage::Decoder,
            fingerprint,
            method: "Verify",
            phase: Phase::Upcoming,
        });
        let _upcoming = verification.map(|demand| self.waiting.hold(demand, tokens));
        self.call(selector, "Compress", tokens, |node| compress_on(node, &job)).await
    }

    /// Verifies windows of a shard. Returns the corrections of each window, in order.
    pub async fn verify(&self, job: VerifyJob<'_>) -> Result<StageResponse<Vec<WindowCorrections>>, Error> {
        let selector = NodeSelector {
            stage: Stage::Decoder,
            fingerprint: job.decoder,
            arithmetic: Some(job.arithmetic),
            exclude: &[],
        };
        let tokens = job.windows.iter().map(|(window, _)| u64::from(window.group.tokens())).sum();
        self.call(selector, "Verify", tokens, |node| verify_on(node, &job)).await
    }

    /// Reconstructs a window's text. The caller must check the hash of the text.
    pub async fn reconstruct(
        &self,
        selector: NodeSelector<'_>,
        job: ReconstructJob<'_>,
    ) -> Result<StageResponse<Bytes>, Error> {
        let corrections = job.corrections.map(Corrections::to_wire);
        let task = pb::decode_request::Task::Reconstruct(pb::Reconstruct { corrections });
        self.decode(selector, job.group, task, job.bytes).await
    }

    /// Answers a prompt about a window. Fails if the answer is longer than 1 MiB.
    pub async fn generate(&self, job: GenerateJob<'_>) -> Result<StageResponse<Bytes>, Error> {
        let selector = NodeSelector { stage: Stage::Decoder, fingerprint: job.decoder, arithmetic: None, exclude: &[] };
        let generate = pb::Generate { prompt: job.prompt.to_owned(), tokens_max: job.tokens_max };
        let task = pb::decode_request::Task::Generate(generate);
        let response = self.decode(selector, job.group, task, GENERATED_BYTES_MAX).await?;
        if response.value.len() as u64 > GENERATED_BYTES_MAX {
            let address = &response.node.address;
            return Err(Error::Internal(format!("{address} generated more than {GENERATED_BYTES_MAX} bytes")));
        }
        Ok(response)
    }

    async fn decode(
        &self,
        selector: NodeSelector<'_>,
        group: &LatentGroup,
        task: pb::decode_request::Task,
        bytes_max: u64,
    ) -> Result<StageResponse<Bytes>, Error> {
        let request = pb::DecodeRequest { window: 0, group: Some(group.to_wire()), task: Some(task) };
        let attempt = |node| decode_on(node, request.clone(), bytes_max);
        self.call(selector, "Decode", u64::from(group.tokens()), attempt).await
    }
}

async fn compress_on(node: Arc<Node>, job: &CompressJob<'_>) -> Result<Vec<CompressedWindow>, AttemptError> {
    let request = pb::CompressRequest {
        shard: 0,
        text: job.text.clone(),
        ratio: job.ratio,
        codec: job.codec.to_wire(),
        with_token_ids: job.verified_by.is_some(),
    };
    let answer = node.compressor().compress(stream::iter([request])).await?;
    let mut answers: Streaming<pb::CompressResponse> = answer.into_inner();
    let (mut windows, mut end, mut count) = (Vec::new(), 0, 0);
    while let Some(answer) = answers.message().await? {
        count = answer.windows;
        if answer.window as usize != windows.len() || answer.start != end {
            return Err(AttemptError::WrongAnswer("its windows are not consecutive".to_owned()));
        }
        end = answer.end;
        windows.push(job.check(answer)?);
    }
    if end != job.text.len() as u64 || count as usize != windows.len() {
        return Err(AttemptError::WrongAnswer("its windows do not cover the shard".to_owned()));
    }
    Ok(windows)
}

impl CompressJob<'_> {
    fn check(&self, answer: pb::CompressResponse) -> Result<CompressedWindow, AttemptError> {
        let bytes = answer.start as usize..answer.end as usize;
        let text = self.text.get(bytes).filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| AttemptError::WrongAnswer("a window lies outside the shard".to_owned()))?;
        let group = LatentGroup::from_wire(answer.group.unwrap_or_default());
        let group = group.map_err(|invalid| AttemptError::WrongAnswer(invalid.to_string()))?;
        if (group.compressor(), group.ratio(), group.codec()) != (self.compressor, self.ratio, self.codec) {
            return Err(AttemptError::WrongAnswer(
                "its latents have another compressor, ratio or codec than requested".to_owned(),
            ));
        }
        let given = answer.token_ids.len();
        if self.verified_by.is_some() && given != group.tokens() as usize {
            return Err(AttemptError::WrongAnswer(format!("it sent {given} token ids for {} tokens", group.tokens())));
        }
        // The casts are exact, because a shard is far smaller than 4 GiB.
        let bytes: Range<u32> = answer.start as u32..answer.end as u32;
        let latents = WindowLatents { bytes, group, hash: WindowHash::of(text) };
        Ok(CompressedWindow { latents, token_ids: answer.token_ids })
    }
}

async fn verify_on(node: Arc<Node>, job: &VerifyJob<'_>) -> Result<Vec<WindowCorrections>, AttemptError> {
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
            return Err(AttemptError::WrongAnswer(format!("it verified window {number}, which was not sent")));
        };
        verified[number] = Some(check_verdict(window, answer)?);
    }
    let all = verified.into_iter().collect::<Option<Vec<_>>>();
    all.ok_or_else(|| AttemptError::WrongAnswer("it did not verify every window".to_owned()))
}

fn check_verdict(window: &WindowLatents, answer: pb::VerifyResponse) -> Result<WindowCorrections, AttemptError> {
    let tokens = window.group.tokens();
    if answer.hash.as_ref() != window.hash.as_bytes() {
        // The tokens come from a compressor, which may have made the mistake.
        return Err(AttemptError::Disputed(
            "the text of the window's tokens does not have the window's hash".to_owned(),
        ));
    }
    let corrections = Corrections::from_wire((&answer.corrections.unwrap_or_default(), tokens));
    let corrections = corrections.map_err(|invalid| AttemptError::WrongAnswer(invalid.to_string()))?;
    if u64::from(answer.right) + (corrections.as_slice().len() as u64) < u64::from(tokens) || answer.right > tokens {
        return Err(AttemptError::WrongAnswer(format!(
            "{} right tokens of {tokens} contradict its corrections",
            answer.right
        )));
    }
    Ok(WindowCorrections { tokens, right: answer.right, corrections })
}

/// Decodes a window on a node. Stops reading beyond `bytes_max` bytes of text: the caller must refuse a longer text.
async fn decode_on(node: Arc<Node>, request: pb::DecodeRequest, bytes_max: u64) -> Result<Bytes, AttemptError> {
    let mut answers = node.decoder().decode(stream::iter([request])).await?.into_inner();
    let (mut text, mut last) = (Vec::new(), false);
    while let Some(piece) = answers.message().await? {
        text.extend_from_slice(&piece.text);
        last = piece.last;
        if text.len() as u64 > bytes_max {
            return Ok(text.into());
        }
    }
    if last { Ok(text.into()) } else { Err(AttemptError::WrongAnswer("its answer is incomplete".to_owned())) }
}
