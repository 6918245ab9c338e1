//! What a node says of itself, checked.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Fingerprint, Invalid, LatentCodec, RatioRange};

/// A stage of the cascade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Text to latents.
    Compressor,
    /// Latents to text.
    Decoder,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compressor => "compressor",
            Self::Decoder => "decoder",
        })
    }
}

/// A cascade: its name and the two stages that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CascadeName {
    /// The name in requests.
    pub name: String,
    /// Fingerprint of the compressor.
    pub compressor: Fingerprint,
    /// Fingerprint of the decoder.
    pub decoder: Fingerprint,
}

impl CascadeName {
    /// Most bytes of a cascade's name.
    const NAME_BYTES_MAX: usize = 100;

    /// Returns the cascade of two stages. Errors: a name that is empty or has more than 100 bytes.
    pub fn new(name: String, compressor: Fingerprint, decoder: Fingerprint) -> Result<Self, Invalid> {
        if name.is_empty() || name.len() > Self::NAME_BYTES_MAX {
            let problem = format!("must have 1 to {} bytes", Self::NAME_BYTES_MAX);
            return Err(Invalid::new("cascade.name", problem));
        }
        Ok(Self { name, compressor, decoder })
    }

    /// The fingerprint of one stage.
    pub fn fingerprint(&self, stage: Stage) -> Fingerprint {
        match stage {
            Stage::Compressor => self.compressor,
            Stage::Decoder => self.decoder,
        }
    }
}

/// What a node serves: the part of its description that does not change while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Its stage.
    pub stage: Stage,
    /// Its cascade.
    pub cascade: CascadeName,
    /// Name of the order and precision in which it computes.
    pub arithmetic: String,
    /// Ratios that its checkpoint accepts.
    pub ratios: RatioRange,
    /// Codec of latents at rest that its checkpoint asks for.
    pub codec: LatentCodec,
    /// Whether one-shot Decompress may carry a prompt.
    pub takes_prompt: bool,
    /// Most bytes of a shard that it accepts.
    pub shard_bytes_max: u64,
}
