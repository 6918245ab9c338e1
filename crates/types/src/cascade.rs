//! Cascades, and descriptions of the nodes that serve them.

use std::fmt;

use serde::Serialize;

use crate::{Fingerprint, Invalid, LatentCodec, RatioRange};

/// A stage of a cascade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Compresses text to latents.
    Compressor,
    /// Decodes latents to text.
    Decoder,
}

impl Stage {
    /// Both stages, in the order of a write.
    pub const ALL: [Self; 2] = [Self::Compressor, Self::Decoder];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compressor => "compressor",
            Self::Decoder => "decoder",
        })
    }
}

/// A cascade: its name and the fingerprints of its two stages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cascade {
    /// Name of the cascade in requests.
    pub name: String,
    /// Fingerprint of the compressor.
    pub compressor: Fingerprint,
    /// Fingerprint of the decoder.
    pub decoder: Fingerprint,
}

impl Cascade {
    /// Maximum bytes of a cascade's name.
    const NAME_BYTES_MAX: usize = 100;

    /// Checks the name. Errors: the name is empty or has more than 100 bytes.
    pub fn new(name: String, compressor: Fingerprint, decoder: Fingerprint) -> Result<Self, Invalid> {
        if name.is_empty() || name.len() > Self::NAME_BYTES_MAX {
            let problem = format!("must have 1 to {} bytes", Self::NAME_BYTES_MAX);
            return Err(Invalid::new("cascade.name", problem));
        }
        Ok(Self { name, compressor, decoder })
    }

    /// Returns the fingerprint of a stage.
    pub fn fingerprint(&self, stage: Stage) -> Fingerprint {
        match stage {
            Stage::Compressor => self.compressor,
            Stage::Decoder => self.decoder,
        }
    }
}

/// The part of a node's description that does not change while the node runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Stage of the node.
    pub stage: Stage,
    /// Cascade of the node.
    pub cascade: Cascade,
    /// Name of the arithmetic, which is the exact order and precision of the node's computation. Nodes with the same
    /// arithmetic are expected to compute identical bits.
    pub arithmetic: String,
    /// Ratios that the checkpoint supports.
    pub ratios: RatioRange,
    /// Default encoding of stored latents.
    pub codec: LatentCodec,
    /// True if Decompress requests may contain a prompt.
    pub takes_prompt: bool,
    /// Maximum bytes of a shard that the node accepts.
    pub shard_bytes_max: u64,
    /// Maximum text tokens that the node computes at the same time.
    pub batch_tokens_max: u64,
}
