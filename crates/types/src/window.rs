//! Windows of documents and of shards.

use std::ops::Range;

use serde::Serialize;

use crate::{Corrections, LatentGroup, WindowHash};

/// A window of a document: its latents, and its hash and corrections, with which a decoder restores its exact text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    /// Number of its shard in the document.
    pub shard: u32,
    /// Its range of bytes in the document.
    pub bytes: Range<u64>,
    /// Its latents.
    pub group: LatentGroup,
    /// BLAKE3 hash of its bytes.
    pub hash: WindowHash,
    /// Its corrections; `None` if the window was not verified.
    pub corrections: Option<Corrections>,
}

/// Latents of a window of a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowLatents {
    /// Byte range in the shard.
    pub bytes: Range<u32>,
    /// The latents.
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
