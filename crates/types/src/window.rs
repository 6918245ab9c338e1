//! Windows: runs of text tokens, each of which has one latent group. A window is a part of a shard, and a shard is the
//! part of a document that one node compresses as a unit.

use std::ops::Range;

use serde::Serialize;

use crate::{Corrections, LatentGroup, WindowHash};

/// A window of a document. A decoder restores the exact text from the latents and corrections, and the hash confirms
/// the text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    /// Index of the window's shard in the document, from 0.
    pub shard: u32,
    /// Byte range of the window in the document.
    pub bytes: Range<u64>,
    /// Latents of the window.
    pub group: LatentGroup,
    /// BLAKE3 hash of the window's bytes.
    pub hash: WindowHash,
    /// Corrections of the window; `None` if it was not verified.
    pub corrections: Option<Corrections>,
}

/// Latents of a window of a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowLatents {
    /// Byte range of the window in the shard.
    pub bytes: Range<u32>,
    /// Latents of the window.
    pub group: LatentGroup,
    /// BLAKE3 hash of the window's bytes.
    pub hash: WindowHash,
}

/// Corrections of a window, with the result of the verification that found them.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowCorrections {
    /// Number of tokens in the window.
    pub tokens: u32,
    /// Number of tokens that the decoder predicts correctly without corrections.
    pub right: u32,
    /// The corrections.
    pub corrections: Corrections,
}
