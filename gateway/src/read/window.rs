//! Decodes one window, a part of a document, and releases its text only if the text matches the window's hash.

use bytes::Bytes;
use c3_routing::{Error as RoutingError, NodeSelector, ReconstructJob, Router};
use c3_types::{Corrections, Fingerprint, LatentGroup, Stage, WindowHash};

use crate::error::Error;

/// Latents and corrections of a window, and the size and hash of its text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncodedWindow<'a> {
    pub(crate) decoder: Fingerprint,
    pub(crate) group: &'a LatentGroup,
    pub(crate) corrections: Option<&'a Corrections>,
    /// Arithmetic with which the corrections were computed: the name of an exact order and precision of operations.
    /// Nodes with the same arithmetic decode a window to the same text. `None` if unknown.
    pub(crate) arithmetic: Option<&'a str>,
    pub(crate) bytes: u64,
    pub(crate) hash: WindowHash,
}

/// Returns the text of a window.
///
/// A decoder with the arithmetic of the corrections decodes the window. If none is ready, any other decoder of the
/// model does: its text is right as long as its logits differ by less than the margin of the corrections. If the text
/// has the wrong hash, one other node decodes the window. If `arithmetic` is set, the other node must have it. Fails
/// with [`Error::DataLoss`] if the second text is wrong too, or if there is no second node. But if no node with the
/// arithmetic of the corrections was tried, fails with a retryable error. `label` names the window in errors.
pub(crate) async fn decode(router: &Router, window: EncodedWindow<'_>, label: &str) -> Result<Bytes, Error> {
    let any = NodeSelector { stage: Stage::Decoder, fingerprint: window.decoder, arithmetic: None, exclude: &[] };
    let covered = NodeSelector { arithmetic: window.arithmetic, ..any };
    let first = router.reconstruct(if router.has_ready(&covered) { covered } else { any }, window.job()).await?;
    if window.matches(&first.value) {
        return Ok(first.value);
    }
    tracing::warn!(address = first.node.address, "{label} has the wrong hash, retrying on another node");
    let first_arithmetic = first.node.arithmetic();
    let exclude = [first.node];
    let same = NodeSelector { arithmetic: window.arithmetic, exclude: &exclude, ..any };
    match router.reconstruct(same, window.job()).await {
        Ok(second) if window.matches(&second.value) => {
            // If the first node has the arithmetic of the corrections or of the second node, its wrong text proves a
            // fault.
            if first_arithmetic.as_deref() == window.arithmetic || second.node.arithmetic() == first_arithmetic {
                let [first] = &exclude;
                first.eject("wrong text for a window that another node decoded correctly");
            }
            Ok(second.value)
        }
        // No node with the arithmetic of the corrections was tried. Such a node may become ready later and decode the
        // text.
        Err(error @ RoutingError::NoNode { .. })
            if window.arithmetic.is_some() && window.arithmetic != first_arithmetic.as_deref() =>
        {
            Err(error.into())
        }
        Ok(_) | Err(RoutingError::NoNode { .. }) => Err(window.lost(label)),
        Err(error) => Err(error.into()),
    }
}

impl<'a> EncodedWindow<'a> {
    fn job(&self) -> ReconstructJob<'a> {
        ReconstructJob { group: self.group, corrections: self.corrections, bytes: self.bytes }
    }

    fn matches(&self, text: &Bytes) -> bool {
        WindowHash::of(text) == self.hash
    }

    fn lost(&self, label: &str) -> Error {
        let problem = match self.corrections {
            Some(_) => "the decoded text does not match the window's hash",
            None => "the decoded text does not match the window's hash, and the window was never verified",
        };
        Error::DataLoss(format!("{label}: {problem}"))
    }
}
