//! Drafts: what the decoder writes for a window without corrections. They show people what the model does, and what the
//! corrections add. Nothing else uses them.

use bytes::Bytes;
use c3_routing::{NodeSelector, ReconstructJob};
use c3_types::Stage;

use super::document::{LoadedWindow, positions};
use crate::error::Error;
use crate::state::Gateway;

/// Maximum bytes of a token's text. Bounds what a node may send for a draft, whose length is not known.
const TOKEN_BYTES_MAX: u64 = 256;

/// Returns the draft of the window at `index` in a document. `reference` is an id, a unique prefix of an id, or a name.
/// The draft is not checked against any hash, and it may contain parts of characters. Fails with [`Error::OutOfRange`]
/// if the document has no such window.
pub(crate) async fn draft(gateway: &Gateway, reference: &str, index: u64) -> Result<Bytes, Error> {
    let found = gateway.find(reference).await?;
    let mut positions = positions(&found.value);
    let position = positions.by_ref().nth(usize::try_from(index).unwrap_or(usize::MAX));
    let Some(position) = position else {
        let size = found.value.document(found.bytes).windows;
        return Err(Error::OutOfRange { range: format!("window {index}"), size, unit: "windows" });
    };
    let loaded = LoadedWindow::load(gateway, &found, position).await?;
    let group = &loaded.window().group;
    let fingerprint = found.value.cascade.decoder;
    let selector = NodeSelector { stage: Stage::Decoder, fingerprint, arithmetic: None, exclude: &[] };
    let job = ReconstructJob { group, corrections: None, bytes: u64::from(group.tokens()) * TOKEN_BYTES_MAX };
    Ok(gateway.router.reconstruct(selector, job).await?.value)
}
