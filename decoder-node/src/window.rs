//! What the node does with a window: checks that it is of its cascade, waits for the model, and makes of the answer what
//! the caller asked for.

use c3_cascade::{DecodeWindow, Latents, Task, TokenVerdict};
use c3_node::{Served, queue::stopping, status};
use c3_proto::{Correction, Corrections, Fingerprint, LatentGroup, WindowHash};
use c3_server::{Kind, caller};
use tokio::sync::oneshot;
use tonic::Status;

use crate::{
    job::{DecodeJob, Decoded, Job, Truth, Verified, VerifyJob},
    model::Node,
};

/// A window to decode, checked.
#[derive(Debug)]
pub(crate) struct ToDecode {
    pub(crate) group: LatentGroup,
    pub(crate) task: DecodeTask,
}

/// What to do with its latents.
#[derive(Debug)]
pub(crate) enum DecodeTask {
    Reconstruct(Corrections),
    Generate { prompt: String, tokens_max: usize },
}

/// A window to verify, checked.
#[derive(Debug)]
pub(crate) struct ToVerify {
    pub(crate) group: LatentGroup,
    pub(crate) tokens: Vec<u32>,
    pub(crate) margin: f32,
}

/// What a verification found.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) right: usize,
    pub(crate) corrections: Corrections,
    pub(crate) hash: WindowHash,
}

/// The text of a window. Dropping the future gives up the window's place, also while it is decoded.
#[tracing::instrument(name = "decode window", skip_all, fields(tokens = given.group.tokens()))]
pub(crate) async fn decode(node: &Node, given: ToDecode) -> Result<Decoded, Status> {
    let ToDecode { group, task } = given;
    let facts = &node.served()?.facts;
    same_cascade(&group, facts.cascade.compressor)?;
    let task = match task {
        DecodeTask::Reconstruct(corrections) => Task::Reconstruct {
            tokens: group.tokens() as usize,
            ratio: group.ratio() as usize,
            corrections: corrections.as_slice().iter().map(|c| (c.position, c.token)).collect(),
        },
        DecodeTask::Generate { .. } if !facts.takes_prompt => {
            let cascade = &facts.cascade.name;
            return Err(Kind::WrongModel
                .status(format!("{cascade} reconstructs text and answers no prompts: give none")));
        }
        DecodeTask::Generate { prompt, tokens_max } => Task::Generate { prompt, tokens_max },
    };
    let (reply, answer) = oneshot::channel();
    let window = DecodeWindow { latents: latents(&group), task };
    node.queue().push(vec![Job::Decode(DecodeJob { window, caller: caller::current(), reply })])?;
    answer.await.map_err(|_| stopping())?
}

/// What a window needs to come back exactly. Dropping the future gives up the window's place.
#[tracing::instrument(name = "verify window", skip_all, fields(tokens = given.tokens.len()))]
pub(crate) async fn verify(node: &Node, given: ToVerify) -> Result<Verdict, Status> {
    let ToVerify { group, tokens, margin } = given;
    let Served { model: decoder, facts } = node.served()?;
    same_cascade(&group, facts.cascade.compressor)?;
    let hash = WindowHash::of(&decoder.text(&tokens).map_err(|error| status(&error))?);
    let window = Truth { latents: latents(&group), tokens, ratio: group.ratio() as usize };
    let (reply, answer) = oneshot::channel();
    node.queue().push(vec![Job::Verify(VerifyJob { window, caller: caller::current(), reply })])?;
    let Verified { tokens, verdicts } = answer.await.map_err(|_| stopping())??;
    let right = verdicts.iter().filter(|verdict| verdict.right).count();
    let corrections = due(&tokens, &verdicts, margin);
    node.metrics().corrections(corrections.len());
    let corrections = Corrections::new(corrections, group.tokens())?;
    Ok(Verdict { right, corrections, hash })
}

/// The places where the decoder must be told the token: it would write another, or this one by less than `margin`.
fn due(tokens: &[u32], verdicts: &[TokenVerdict], margin: f32) -> Vec<Correction> {
    let places = (0..).zip(tokens.iter().zip(verdicts));
    places
        .filter(|(_, (_, verdict))| !verdict.right || verdict.margin < margin)
        .map(|(position, (&token, _))| Correction { position, token })
        .collect()
}

fn latents(group: &LatentGroup) -> Latents {
    Latents { values: group.values(), count: group.latents() as usize, width: group.width() as usize }
}

fn same_cascade(group: &LatentGroup, own: Fingerprint) -> Result<(), Status> {
    let given = group.compressor();
    if given == own {
        return Ok(());
    }
    Err(Kind::WrongModel.status(format!(
        "the latents were made by compressor {given}, this decoder reads those of {own}: use a decoder of their cascade"
    )))
}

#[cfg(test)]
mod tests {
    use c3_proto::{LatentCodec, Provenance};
    use tonic::Code;

    use super::*;

    fn verdict(right: bool, margin: f32) -> TokenVerdict {
        TokenVerdict { written: 0, right, margin }
    }

    #[test]
    fn corrections_are_due_where_wrong_or_thin() {
        let verdicts = [verdict(true, 5.0), verdict(true, 1.9), verdict(false, -3.0), verdict(true, 2.0)];
        let positions = |margin| -> Vec<u32> {
            due(&[10, 11, 12, 13], &verdicts, margin).iter().map(|c| c.position).collect()
        };
        assert_eq!(positions(2.0), [1, 2]);
        assert_eq!(positions(0.0), [2]);
        assert_eq!(due(&[10, 11, 12, 13], &verdicts, 2.0)[1].token, 12);
    }

    #[test]
    fn latents_of_another_model_are_refused_by_both_names() {
        let (theirs, ours) = (Fingerprint::of(b"theirs"), Fingerprint::of(b"ours"));
        let of = Provenance { compressor: theirs, tokens: 20, ratio: 20 };
        let group = LatentGroup::encode(&[0.5; 64], 64, LatentCodec::F32, of).unwrap();
        let refused = same_cascade(&group, ours).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains(&theirs.to_string()));
        assert!(refused.message().contains(&ours.to_string()));
        assert!(same_cascade(&group, theirs).is_ok());
    }
}
