//! A window of text as latents, with what proves its text.

use serde::Serialize;

use crate::{Corrections, LatentGroup, WindowHash};

/// A window of a document as latents, with what proves its text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    /// Number of its shard in the document.
    pub shard: u32,
    /// First byte in the document and the byte after the last.
    pub bytes: std::ops::Range<u64>,
    /// What the compressor made of it.
    pub group: LatentGroup,
    /// Hash of its bytes.
    pub hash: WindowHash,
    /// What the decoder needs to be told; `None` where nobody verified it.
    pub corrections: Option<Corrections>,
}

/// A window of a shard as latents.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowLatents {
    /// Byte range in the shard.
    pub bytes: std::ops::Range<u32>,
    /// The latents.
    pub group: LatentGroup,
    /// Hash of the window's bytes.
    pub hash: WindowHash,
}

/// Corrections of a window, with the result of the verification that found them.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowCorrections {
    /// Number of tokens in the window.
    pub tokens: u32,
    /// Number of tokens that the decoder writes right without corrections.
    pub right: u32,
    /// The corrections.
    pub corrections: Corrections,
}
