//! Windows, as parts of a document or of a shard.

use std::ops::Range;

use serde::Serialize;

use crate::{Corrections, LatentGroup, WindowHash};

/// A window of a document. From the latents and corrections, a decoder restores the exact text; the hash confirms it.
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
