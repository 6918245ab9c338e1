//! What a node says of itself, checked.

use std::fmt;

use crate::{Fingerprint, Invalid, LatentCodec, RatioRange, pb};

/// A stage of the cascade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Text to latents.
    Compressor,
    /// Latents to text.
    Decoder,
}

impl Stage {
    /// The stage as it travels.
    pub fn to_wire(self) -> i32 {
        match self {
            Self::Compressor => pb::Stage::Compressor as i32,
            Self::Decoder => pb::Stage::Decoder as i32,
        }
    }
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CascadeName {
    /// The name in requests.
    pub name: String,
    /// Fingerprint of the compressor.
    pub compressor: Fingerprint,
    /// Fingerprint of the decoder.
    pub decoder: Fingerprint,
}

impl CascadeName {
    /// Checks what arrived.
    pub fn from_wire(wire: pb::Cascade) -> Result<Self, Invalid> {
        const NAME_BYTES_MAX: usize = 100;
        if wire.name.is_empty() || wire.name.len() > NAME_BYTES_MAX {
            let problem = format!("must have 1 to {NAME_BYTES_MAX} bytes");
            return Err(Invalid::new("cascade.name", problem));
        }
        Ok(Self {
            name: wire.name,
            compressor: Fingerprint::try_from(wire.compressor_fingerprint.as_ref())?,
            decoder: Fingerprint::try_from(wire.decoder_fingerprint.as_ref())?,
        })
    }

    /// The cascade as it travels.
    pub fn to_wire(&self) -> pb::Cascade {
        pb::Cascade {
            name: self.name.clone(),
            compressor_fingerprint: self.compressor.to_wire(),
            decoder_fingerprint: self.decoder.to_wire(),
        }
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
#[derive(Clone, Debug, PartialEq)]
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

impl Description {
    /// Checks what arrived.
    pub fn from_wire(wire: pb::DescribeResponse) -> Result<Self, Invalid> {
        let missing = |field| move || Invalid::new(field, "must be given");
        let stage = match wire.stage() {
            pb::Stage::Compressor => Stage::Compressor,
            pb::Stage::Decoder => Stage::Decoder,
            pb::Stage::Unspecified => return Err(missing("stage")()),
        };
        let shape = wire.shape.ok_or_else(missing("shape"))?;
        let (min, max, default) = (shape.ratio_min, shape.ratio_max, shape.ratio_default);
        if min == 0 || !(min..=max).contains(&default) {
            return Err(Invalid::new("shape.ratio_default", format!("{default} is not in {min} to {max}")));
        }
        let codec = LatentCodec::from_wire(shape.codec)?;
        Ok(Self {
            stage,
            cascade: CascadeName::from_wire(wire.cascade.ok_or_else(missing("cascade"))?)?,
            arithmetic: wire.arithmetic,
            ratios: RatioRange { min, max, default },
            codec: codec.ok_or_else(missing("shape.codec"))?,
            takes_prompt: shape.takes_prompt,
            shard_bytes_max: wire.limits.ok_or_else(missing("limits"))?.shard_bytes_max,
        })
    }
}
