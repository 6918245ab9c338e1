//! One window on its way out: decoded, and proven by its hash before anybody sees it.

use bytes::Bytes;
use c3_proto::{Corrections, Fingerprint, LatentGroup, Stage, WindowHash};

use crate::error::Failure;
use crate::nodes::calls::ReconstructJob;
use crate::nodes::{Need, Nodes};

/// A window with what proves its text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed<'a> {
    pub(crate) decoder: Fingerprint,
    pub(crate) group: &'a LatentGroup,
    pub(crate) corrections: Option<&'a Corrections>,
    /// Name of the arithmetic that the corrections were made with, where it is known.
    pub(crate) arithmetic: Option<&'a str>,
    pub(crate) bytes: u64,
    pub(crate) hash: WindowHash,
}

/// The window's text, from any decoder; where its hash does not hold, from another one whose arithmetic is the one that
/// the corrections were made with. `what` names the window in errors.
pub(crate) async fn decode(nodes: &Nodes, window: Sealed<'_>, what: &str) -> Result<Bytes, Failure> {
    let any = Need { stage: Stage::Decoder, fingerprint: window.decoder, arithmetic: None, avoid: &[] };
    let first = nodes.reconstruct(any, window.job()).await?;
    if window.proves(&first.value) {
        return Ok(first.value);
    }
    tracing::warn!(address = first.node.address, "{what} did not come back right: another node is asked");
    let written_with = first.node.arithmetic();
    let avoid = [first.node];
    let same = Need { arithmetic: window.arithmetic, avoid: &avoid, ..any };
    match nodes.reconstruct(same, window.job()).await {
        Ok(second) if window.proves(&second.value) => {
            // With the arithmetic of the corrections there is no excuse for another text.
            if written_with.as_deref() == window.arithmetic || second.node.arithmetic() == written_with {
                let [first] = &avoid;
                first.eject("it wrote a text that another node proved wrong");
            }
            Ok(second.value)
        }
        // No other node: if the first was as good as any, the text is lost.
        Err(failure @ Failure::NoNode { .. })
            if window.arithmetic.is_some() && window.arithmetic != written_with.as_deref() =>
        {
            Err(failure)
        }
        Ok(_) | Err(Failure::NoNode { .. }) => Err(window.lost(what)),
        Err(failure) => Err(failure),
    }
}

impl<'a> Sealed<'a> {
    fn job(&self) -> ReconstructJob<'a> {
        ReconstructJob { group: self.group, corrections: self.corrections, bytes: self.bytes }
    }

    fn proves(&self, text: &Bytes) -> bool {
        WindowHash::of(text) == self.hash
    }

    fn lost(&self, what: &str) -> Failure {
        let why = match self.corrections {
            Some(_) => "what the decoder writes does not have its hash",
            None => "it was never verified, and what the decoder writes does not have its hash",
        };
        Failure::DataLoss(format!("{what}: {why}"))
    }
}
