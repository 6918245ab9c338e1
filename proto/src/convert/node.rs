//! Stages, cascades and the descriptions of nodes.

use c3_types::{Cascade, Description, Fingerprint, Invalid, RatioRange, Stage};

use super::{FromWire, ToWire, required};
use crate::pb;

impl FromWire<i32> for Stage {
    fn from_wire(wire: i32) -> Result<Self, Invalid> {
        match pb::Stage::try_from(wire) {
            Ok(pb::Stage::Compressor) => Ok(Self::Compressor),
            Ok(pb::Stage::Decoder) => Ok(Self::Decoder),
            Ok(pb::Stage::Unspecified) | Err(_) => Err(Invalid::new("stage", "must be compressor or decoder")),
        }
    }
}

impl ToWire for Stage {
    type Wire = i32;

    fn to_wire(&self) -> i32 {
        match self {
            Self::Compressor => pb::Stage::Compressor as i32,
            Self::Decoder => pb::Stage::Decoder as i32,
        }
    }
}

impl FromWire<pb::Cascade> for Cascade {
    fn from_wire(wire: pb::Cascade) -> Result<Self, Invalid> {
        let fingerprint = |bytes: &[u8]| Fingerprint::try_from(bytes);
        let compressor = fingerprint(&wire.compressor_fingerprint)?;
        Self::new(wire.name, compressor, fingerprint(&wire.decoder_fingerprint)?)
    }
}

impl ToWire for Cascade {
    type Wire = pb::Cascade;

    fn to_wire(&self) -> pb::Cascade {
        pb::Cascade {
            name: self.name.clone(),
            compressor_fingerprint: self.compressor.to_wire(),
            decoder_fingerprint: self.decoder.to_wire(),
        }
    }
}

impl FromWire<pb::DescribeResponse> for Description {
    fn from_wire(wire: pb::DescribeResponse) -> Result<Self, Invalid> {
        let stage = Stage::from_wire(wire.stage)?;
        let shape = required("shape", wire.shape)?;
        let (min, max, default) = (shape.ratio_min, shape.ratio_max, shape.ratio_default);
        if min == 0 {
            return Err(Invalid::new("shape.ratio_min", "must be at least 1"));
        }
        if max < min {
            return Err(Invalid::new("shape.ratio_max", format!("must be at least {min}, is {max}")));
        }
        if !(min..=max).contains(&default) {
            return Err(Invalid::new("shape.ratio_default", format!("must be {min} to {max}, is {default}")));
        }
        let cascade = Cascade::from_wire(required("cascade", wire.cascade)?)?;
        let limits = required("limits", wire.limits)?;
        Ok(Self {
            stage,
            cascade,
            arithmetic: wire.arithmetic,
            ratios: RatioRange { min, max, default },
            codec: required("shape.codec", Option::from_wire(shape.codec)?)?,
            takes_prompt: shape.takes_prompt,
            shard_bytes_max: limits.shard_bytes_max,
            batch_tokens_max: limits.batch_tokens_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_that_is_wrong_is_named() {
        let field = |ratio_min, ratio_max, ratio_default| {
            let shape = pb::ModelShape { ratio_min, ratio_max, ratio_default, ..Default::default() };
            let wire =
                pb::DescribeResponse { stage: pb::Stage::Decoder as i32, shape: Some(shape), ..Default::default() };
            Description::from_wire(wire).unwrap_err().field
        };
        assert_eq!(field(0, 80, 20), "shape.ratio_min");
        assert_eq!(field(8, 7, 8), "shape.ratio_max");
        assert_eq!(field(8, 80, 81), "shape.ratio_default");
        assert_eq!(field(8, 80, 20), "cascade");
    }
}
