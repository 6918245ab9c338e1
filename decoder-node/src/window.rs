//! Checks that a window belongs to the node's cascade, has the model decode or verify it, and returns its text or its
//! corrections. Corrections are tokens that are forced when the window is decoded.

use c3_cascade::{DecodeWindow, Latents, Task, TokenVerdict};
use c3_node::{CallError, Loaded};
use c3_server::principal;
use c3_types::{Correction, Corrections, Fingerprint, LatentGroup, WindowHash};
use tokio::sync::oneshot;

use crate::job::{DecodeJob, Decoded, Job, TrueWindow, Verified, VerifyJob, call_error};
use crate::model::Node;

/// A window to decode, from a valid request.
#[derive(Debug)]
pub(crate) struct ToDecode {
    pub(crate) group: LatentGroup,
    pub(crate) task: DecodeTask,
}

/// Task of the decoder: restore the window's text, or answer a prompt about it. `tokens_max` 0 means 4096.
#[derive(Debug)]
pub(crate) enum DecodeTask {
    Reconstruct(Corrections),
    Generate { prompt: String, tokens_max: usize },
}

/// A window to verify, from a valid request. `margin` is in logits.
#[derive(Debug)]
pub(crate) struct ToVerify {
    pub(crate) group: LatentGroup,
    pub(crate) tokens: Vec<u32>,
    pub(crate) margin: f32,
}

/// Result of a verification.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Number of tokens that the decoder predicts correctly without corrections.
    pub(crate) correct: usize,
    pub(crate) corrections: Corrections,
    pub(crate) hash: WindowHash,
}

/// Returns the text of a window, or the answer to a prompt about it. Dropping the future cancels the job before its
/// next step.
#[tracing::instrument(name = "decode window", skip_all, fields(tokens = request.group.tokens()))]
pub(crate) async fn decode(node: &Node, request: ToDecode) -> Result<Decoded, CallError> {
    let ToDecode { group, task } = request;
    let info = &node.loaded()?.info;
    check_cascade(&group, info.cascade.compressor)?;
    let task = match task {
        DecodeTask::Reconstruct(corrections) => Task::Reconstruct {
            tokens: group.tokens() as usize,
            ratio: group.ratio() as usize,
            corrections: corrections.as_slice().iter().map(|c| (c.position, c.token)).collect(),
        },
        DecodeTask::Generate { .. } if !info.takes_prompt => {
            let cascade = &info.cascade.name;
            return Err(CallError::WrongModel(format!("cascade {cascade} does not support prompts: omit the prompt")));
        }
        DecodeTask::Generate { prompt, tokens_max } => Task::Generate { prompt, tokens_max },
    };
    let (reply, answer) = oneshot::channel();
    let window = DecodeWindow { latents: latents(&group), task };
    node.queue().push(vec![Job::Decode(DecodeJob { window, principal: principal::current(), reply })])?;
    answer.await.map_err(|_| CallError::Stopping)?
}

/// Returns the corrections and the hash of a window. Dropping the future cancels the job if it is still queued.
#[tracing::instrument(name = "verify window", skip_all, fields(tokens = request.tokens.len()))]
pub(crate) async fn verify(node: &Node, request: ToVerify) -> Result<Verdict, CallError> {
    let ToVerify { group, tokens, margin } = request;
    let Loaded { model: decoder, info } = node.loaded()?;
    check_cascade(&group, info.cascade.compressor)?;
    let hash = WindowHash::of(&decoder.text(&tokens).map_err(call_error)?);
    let window = TrueWindow { latents: latents(&group), tokens, ratio: group.ratio() as usize };
    let (reply, answer) = oneshot::channel();
    node.queue().push(vec![Job::Verify(VerifyJob { window, principal: principal::current(), reply })])?;
    let Verified { tokens, verdicts } = answer.await.map_err(|_| CallError::Stopping)??;
    let correct = verdicts.iter().filter(|verdict| verdict.correct).count();
    let corrections = corrections(&tokens, &verdicts, margin);
    node.metrics().corrections(corrections.len());
    let corrections = Corrections::new(corrections, group.tokens())?;
    Ok(Verdict { correct, corrections, hash })
}

/// Returns a correction for each token that is predicted wrongly, or correctly with a margin below `margin` logits.
fn corrections(tokens: &[u32], verdicts: &[TokenVerdict], margin: f32) -> Vec<Correction> {
    let positions = (0..).zip(tokens.iter().zip(verdicts));
    positions
        .filter(|(_, (_, verdict))| !verdict.correct || verdict.margin < margin)
        .map(|(position, (&token, _))| Correction { position, token })
        .collect()
}

fn latents(group: &LatentGroup) -> Latents {
    Latents { values: group.values(), count: group.latents() as usize, width: group.width() as usize }
}

fn check_cascade(group: &LatentGroup, expected: Fingerprint) -> Result<(), CallError> {
    let actual = group.compressor();
    if actual == expected {
        return Ok(());
    }
    Err(CallError::WrongModel(format!(
        "the latents are from compressor {actual}, but this decoder needs {expected}: use a decoder of their cascade"
    )))
}

#[cfg(test)]
mod tests {
    use c3_server::{ErrorKind, ServiceError};
    use c3_types::{LatentCodec, Provenance};

    use super::*;

    fn verdict(correct: bool, margin: f32) -> TokenVerdict {
        TokenVerdict { predicted: 0, correct, margin }
    }

    #[test]
    fn wrong_predictions_and_thin_margins_need_corrections() {
        let verdicts = [verdict(true, 5.0), verdict(true, 1.9), verdict(false, -3.0), verdict(true, 2.0)];
        let positions = |margin| -> Vec<u32> {
            corrections(&[10, 11, 12, 13], &verdicts, margin).iter().map(|c| c.position).collect()
        };
        assert_eq!(positions(2.0), [1, 2]);
        assert_eq!(positions(0.0), [2]);
        assert_eq!(corrections(&[10, 11, 12, 13], &verdicts, 2.0)[1].token, 12);
    }

    #[test]
    fn latents_of_another_model_are_refused_with_both_fingerprints() {
        let (theirs, ours) = (Fingerprint::of(b"theirs"), Fingerprint::of(b"ours"));
        let of = Provenance { compressor: theirs, tokens: 20, ratio: 20 };
        let group = LatentGroup::encode(&[0.5; 64], 64, LatentCodec::F32, of).unwrap();
        let refused = check_cascade(&group, ours).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WrongModel);
        assert!(refused.to_string().contains(&theirs.to_string()));
        assert!(refused.to_string().contains(&ours.to_string()));
        assert!(check_cascade(&group, theirs).is_ok());
    }
}
