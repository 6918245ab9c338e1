//! How a text is to be written.

use crate::{Invalid, LatentCodec, pb};

/// The ratios that a checkpoint accepts, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatioRange {
    /// Fewest text tokens a latent.
    pub min: u32,
    /// Most text tokens a latent.
    pub max: u32,
    /// What is taken where the caller names none.
    pub default: u32,
}

impl RatioRange {
    /// The ratio that a message asks for (0: the default), if it is in range.
    pub fn check(&self, ratio: u32) -> Result<u32, Invalid> {
        match ratio {
            0 => Ok(self.default),
            ratio if (self.min..=self.max).contains(&ratio) => Ok(ratio),
            ratio => {
                let problem = format!("{ratio} is not a whole number from {} to {}", self.min, self.max);
                Err(Invalid::new("ratio", problem))
            }
        }
    }
}

/// What the caller of a write asks for; what is `None` is the checkpoint's or the gateway's to choose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteOptions {
    /// Name of the cascade.
    pub cascade: Option<String>,
    /// Text tokens a latent.
    pub ratio: Option<u32>,
    /// How latents are written.
    pub codec: Option<LatentCodec>,
    /// Store without knowing whether the text comes back.
    pub skip_verification: bool,
    /// Logits by which a token must win to need no correction.
    pub margin: Option<f32>,
    /// Size of the text, where known.
    pub bytes: Option<u64>,
    /// Seconds after which the document is not found; `None`: never.
    pub ttl_seconds: Option<u64>,
}

impl WriteOptions {
    /// Checks what arrived. The ratio's range is the checkpoint's to check.
    pub fn from_wire(wire: pb::WriteOptions) -> Result<Self, Invalid> {
        match wire.margin {
            Some(margin) if !(margin.is_finite() && margin >= 0.0) => {
                return Err(Invalid::new("margin", format!("{margin} is not a finite number of 0 or more")));
            }
            _ => {}
        }
        Ok(Self {
            cascade: Some(wire.cascade).filter(|name| !name.is_empty()),
            ratio: Some(wire.ratio).filter(|&ratio| ratio != 0),
            codec: LatentCodec::from_wire(wire.codec)?,
            skip_verification: wire.skip_verification,
            margin: wire.margin,
            bytes: wire.bytes,
            ttl_seconds: Some(wire.ttl_seconds).filter(|&seconds| seconds != 0),
        })
    }

    /// The options as they travel.
    pub fn to_wire(&self) -> pb::WriteOptions {
        pb::WriteOptions {
            cascade: self.cascade.clone().unwrap_or_default(),
            ratio: self.ratio.unwrap_or_default(),
            codec: self.codec.map_or(0, LatentCodec::to_wire),
            skip_verification: self.skip_verification,
            margin: self.margin,
            bytes: self.bytes,
            ttl_seconds: self.ttl_seconds.unwrap_or_default(),
        }
    }
}
