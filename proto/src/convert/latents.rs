//! Codecs, latent groups, corrections and windows.

use bytes::Bytes;
use c3_types::{
    ByteRange, Corrections, Fingerprint, Invalid, LatentCodec, LatentGroup, LatentGroupParts, Provenance, Window,
    WindowHash,
};

use super::{FromWire, ToWire, required};
use crate::pb;

/// Converts to `None` if the codec is unspecified.
impl FromWire<i32> for Option<LatentCodec> {
    fn from_wire(wire: i32) -> Result<Self, Invalid> {
        match pb::LatentCodec::try_from(wire) {
            Ok(pb::LatentCodec::Unspecified) => Ok(None),
            Ok(pb::LatentCodec::F32) => Ok(Some(LatentCodec::F32)),
            Ok(pb::LatentCodec::Bf16) => Ok(Some(LatentCodec::Bf16)),
            Ok(pb::LatentCodec::Q80) => Ok(Some(LatentCodec::Q8_0)),
            Ok(pb::LatentCodec::Q40) => Ok(Some(LatentCodec::Q4_0)),
            Err(_) => Err(Invalid::new("codec", format!("{wire} is not one of f32, bf16, q8_0, q4_0"))),
        }
    }
}

impl ToWire for LatentCodec {
    type Wire = i32;

    fn to_wire(&self) -> i32 {
        match self {
            Self::F32 => pb::LatentCodec::F32 as i32,
            Self::Bf16 => pb::LatentCodec::Bf16 as i32,
            Self::Q8_0 => pb::LatentCodec::Q80 as i32,
            Self::Q4_0 => pb::LatentCodec::Q40 as i32,
        }
    }
}

impl FromWire<pb::LatentGroup> for LatentGroup {
    /// Copies the data, so that a cached group does not keep the whole message in memory.
    fn from_wire(wire: pb::LatentGroup) -> Result<Self, Invalid> {
        Self::new(LatentGroupParts {
            latents: wire.latents,
            width: wire.width,
            codec: required("group.codec", Option::from_wire(wire.codec)?)?,
            data: Bytes::copy_from_slice(&wire.data),
            checksum: Bytes::copy_from_slice(&wire.checksum),
            provenance: Provenance {
                compressor: Fingerprint::try_from(wire.compressor_fingerprint.as_ref())?,
                tokens: wire.tokens,
                ratio: wire.ratio,
            },
        })
    }
}

impl ToWire for LatentGroup {
    type Wire = pb::LatentGroup;

    fn to_wire(&self) -> pb::LatentGroup {
        let LatentGroupParts { latents, width, codec, data, checksum, provenance } = self.parts();
        pb::LatentGroup {
            latents: *latents,
            width: *width,
            codec: codec.to_wire(),
            data: data.clone(),
            checksum: checksum.clone(),
            compressor_fingerprint: provenance.compressor.to_wire(),
            tokens: provenance.tokens,
            ratio: provenance.ratio,
        }
    }
}

/// Converts the corrections of a window. The second value of the pair is the number of tokens in the window.
impl FromWire<(&pb::Corrections, u32)> for Corrections {
    fn from_wire((wire, tokens): (&pb::Corrections, u32)) -> Result<Self, Invalid> {
        Self::from_columns(&wire.positions, &wire.tokens, tokens)
    }
}

impl ToWire for Corrections {
    type Wire = pb::Corrections;

    fn to_wire(&self) -> pb::Corrections {
        pb::Corrections {
            positions: self.as_slice().iter().map(|correction| correction.position).collect(),
            tokens: self.as_slice().iter().map(|correction| correction.token).collect(),
        }
    }
}

impl FromWire<pb::WindowLatents> for Window {
    fn from_wire(wire: pb::WindowLatents) -> Result<Self, Invalid> {
        ByteRange::new(Some(wire.start), Some(wire.end))?;
        let group = LatentGroup::from_wire(required("window.group", wire.group)?)?;
        let corrections = wire.corrections.as_ref();
        let corrections = corrections.map(|given| Corrections::from_wire((given, group.tokens())));
        Ok(Self {
            shard: wire.shard,
            bytes: wire.start..wire.end,
            hash: WindowHash::try_from(wire.hash.as_ref())?,
            corrections: corrections.transpose()?,
            group,
        })
    }
}

impl ToWire for Window {
    type Wire = pb::WindowLatents;

    fn to_wire(&self) -> pb::WindowLatents {
        pb::WindowLatents {
            shard: self.shard,
            start: self.bytes.start,
            end: self.bytes.end,
            group: Some(self.group.to_wire()),
            hash: self.hash.to_wire(),
            corrections: self.corrections.as_ref().map(Corrections::to_wire),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn group() -> LatentGroup {
        let provenance = Provenance { compressor: Fingerprint::of(b"model"), tokens: 40, ratio: 20 };
        let values: Vec<f32> = (0..128).map(|i| i as f32 / 16.0 - 4.0).collect();
        LatentGroup::encode(&values, 64, LatentCodec::Q4_0, provenance).unwrap()
    }

    #[test]
    fn a_group_survives_the_wire() {
        assert_eq!(LatentGroup::from_wire(group().to_wire()), Ok(group()));
    }

    #[test]
    fn each_wrong_field_is_named() {
        type Change = fn(&mut pb::LatentGroup);
        let changes: [(&str, Change); 9] = [
            ("group.latents", |g| g.latents = 0),
            ("group.latents", |g| g.latents = 1 << 30),
            ("group.width", |g| g.width = u32::MAX),
            ("group.tokens", |g| g.tokens = u32::MAX),
            ("group.ratio", |g| g.ratio = 0),
            ("group.codec", |g| g.codec = 0),
            ("group.data", |g| g.latents = 3),
            ("group.checksum", |g| g.checksum = Bytes::from_static(&[1; 32])),
            ("fingerprint", |g| g.compressor_fingerprint = Bytes::new()),
        ];
        for (field, change) in changes {
            let mut wire = group().to_wire();
            change(&mut wire);
            assert_eq!(LatentGroup::from_wire(wire).unwrap_err().field, field);
        }
    }

    #[test]
    fn corrections_survive_the_wire() {
        let given = pb::Corrections { positions: vec![0, 4, 9], tokens: vec![7, 7, 8] };
        let corrections = Corrections::from_wire((&given, 10)).unwrap();
        assert_eq!(corrections.to_wire(), given);
    }
}
