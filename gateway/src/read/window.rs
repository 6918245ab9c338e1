//! Decodes one window and verifies its text by its hash before anyone sees it.

use bytes::Bytes;
use c3_routing::{Error as RoutingError, NodeSelector, ReconstructJob, Router};
use c3_types::{Corrections, Fingerprint, LatentGroup, Stage, WindowHash};

use crate::error::Error;

/// A window with what proves its text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SealedWindow<'a> {
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
pub(crate) async fn decode(router: &Router, window: SealedWindow<'_>, what: &str) -> Result<Bytes, Error> {
    let any =
        NodeSelector { stage: Stage::Decoder, fingerprint: window.decoder, arithmetic: None, exclude: &[] };
    let first = router.reconstruct(any, window.job()).await?;
    if window.proves(&first.value) {
        return Ok(first.value);
    }
    tracing::warn!(address = first.node.address, "{what} did not come back right: another node is asked");
    let written_with = first.node.arithmetic();
    let exclude = [first.node];
    let same = NodeSelector { arithmetic: window.arithmetic, exclude: &exclude, ..any };
    match router.reconstruct(same, window.job()).await {
        Ok(second) if window.proves(&second.value) => {
            // With the arithmetic of the corrections there is no excuse for another text.
            if written_with.as_deref() == window.arithmetic || second.node.arithmetic() == written_with {
                let [first] = &exclude;
                first.eject("it wrote a text that another node proved wrong");
            }
            Ok(second.value)
        }
        // No other node: if the first was as good as any, the text is lost.
        Err(error @ RoutingError::NoNode { .. })
            if window.arithmetic.is_some() && window.arithmetic != written_with.as_deref() =>
        {
            Err(error.into())
        }
        Ok(_) | Err(RoutingError::NoNode { .. }) => Err(window.lost(what)),
        Err(error) => Err(error.into()),
    }
}

impl<'a> SealedWindow<'a> {
    fn job(&self) -> ReconstructJob<'a> {
        ReconstructJob { group: self.group, corrections: self.corrections, bytes: self.bytes }
    }

    fn proves(&self, text: &Bytes) -> bool {
        WindowHash::of(text) == self.hash
    }

    fn lost(&self, what: &str) -> Error {
        let why = match self.corrections {
            Some(_) => "what the decoder writes does not have its hash",
            None => "it was never verified, and what the decoder writes does not have its hash",
        };
        Error::DataLoss(format!("{what}: {why}"))
    }
}
