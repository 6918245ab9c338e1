//! A latent group that was checked.

use bytes::Bytes;

use crate::{Fingerprint, Invalid, LatentCodec, limits, pb};

/// The compressor's last hidden states at its query positions: a tensor `latents` × `width`, still encoded.
///
/// Sizes, checksum and finiteness hold. Whether the fingerprint is the one that a node serves is for the node to say.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentGroup {
    latents: u32,
    width: u32,
    codec: LatentCodec,
    data: Bytes,
    checksum: [u8; 32],
    compressor: Fingerprint,
    tokens: u32,
    ratio: u32,
}

/// What a latent group stands for and who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Fingerprint of the compressor.
    pub compressor: Fingerprint,
    /// Text tokens of the window.
    pub tokens: u32,
    /// Text tokens a latent that were asked for.
    pub ratio: u32,
}

impl LatentGroup {
    /// Encodes `values`, a tensor of rows of `width`. Errors: values that are not finite, before or after the codec's
    /// rounding, or sizes that do not fit.
    pub fn encode(values: &[f32], width: u32, codec: LatentCodec, of: Provenance) -> Result<Self, Invalid> {
        if !values.iter().all(|x| x.is_finite()) {
            return Err(Invalid::new("data", "a latent is not finite"));
        }
        let latents = values.len() / (width.max(1) as usize);
        let data = Bytes::from(codec.encode(values));
        Self::from_wire(pb::LatentGroup {
            latents: u32::try_from(latents).unwrap_or(u32::MAX),
            width,
            codec: codec.to_wire(),
            checksum: Bytes::copy_from_slice(blake3::hash(&data).as_bytes()),
            data,
            compressor_fingerprint: of.compressor.to_wire(),
            tokens: of.tokens,
            ratio: of.ratio,
        })
    }

    /// Checks what arrived: sizes, checksum, finiteness.
    pub fn from_wire(wire: pb::LatentGroup) -> Result<Self, Invalid> {
        let bounded = |field, value, most| match value {
            0 => Err(Invalid::new(field, "must not be 0")),
            value if value > most => Err(Invalid::new(field, format!("{value} is over the limit of {most}"))),
            _ => Ok(()),
        };
        bounded("group.latents", wire.latents, limits::LATENTS_MAX)?;
        bounded("group.width", wire.width, limits::WIDTH_MAX)?;
        bounded("group.tokens", wire.tokens, limits::WINDOW_TOKENS_MAX)?;
        bounded("group.ratio", wire.ratio, limits::WINDOW_TOKENS_MAX)?;
        let codec = LatentCodec::from_wire(wire.codec)?;
        let codec = codec.ok_or_else(|| Invalid::new("group.codec", "must be given"))?;
        let (expected, given) = (codec.bytes(wire.latents, wire.width)?, wire.data.len());
        if given != expected {
            let shape = format!("{} x {} in {codec}", wire.latents, wire.width);
            return Err(Invalid::new("group.data", format!("{given} bytes given, {shape} has {expected}")));
        }
        let checksum = blake3::hash(&wire.data);
        if checksum.as_bytes() != wire.checksum.as_ref() {
            return Err(Invalid::new("group.checksum", "the data does not have this BLAKE3 hash"));
        }
        let compressor = Fingerprint::try_from(wire.compressor_fingerprint.as_ref())?;
        if !codec.decode(&wire.data).iter().all(|x| x.is_finite()) {
            return Err(Invalid::new("group.data", "a latent is not finite"));
        }
        Ok(Self {
            latents: wire.latents,
            width: wire.width,
            codec,
            data: wire.data,
            checksum: *checksum.as_bytes(),
            compressor,
            tokens: wire.tokens,
            ratio: wire.ratio,
        })
    }

    /// The group as it travels.
    pub fn to_wire(&self) -> pb::LatentGroup {
        pb::LatentGroup {
            latents: self.latents,
            width: self.width,
            codec: self.codec.to_wire(),
            data: self.data.clone(),
            checksum: Bytes::copy_from_slice(&self.checksum),
            compressor_fingerprint: self.compressor.to_wire(),
            tokens: self.tokens,
            ratio: self.ratio,
        }
    }

    /// The floats: `latents` rows of `width`.
    pub fn values(&self) -> Vec<f32> {
        self.codec.decode(&self.data)
    }

    /// Number of latents.
    pub fn latents(&self) -> u32 {
        self.latents
    }

    /// Width of a latent, d₁.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// How the floats are written.
    pub fn codec(&self) -> LatentCodec {
        self.codec
    }

    /// The floats as written.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Fingerprint of the compressor that made them.
    pub fn compressor(&self) -> Fingerprint {
        self.compressor
    }

    /// Text tokens that the group stands for.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Text tokens a latent that were asked for.
    pub fn ratio(&self) -> u32 {
        self.ratio
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> LatentGroup {
        let of = Provenance { compressor: Fingerprint::of(b"model"), tokens: 40, ratio: 20 };
        let values: Vec<f32> = (0..128).map(|i| i as f32 / 16.0 - 4.0).collect();
        LatentGroup::encode(&values, 64, LatentCodec::Q4_0, of).unwrap()
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
    fn infinite_scales_are_refused() {
        let mut wire = group().to_wire();
        let mut data = wire.data.to_vec();
        data[..2].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
        wire.checksum = Bytes::copy_from_slice(blake3::hash(&data).as_bytes());
        wire.data = data.into();
        assert_eq!(LatentGroup::from_wire(wire).unwrap_err().field, "group.data");
    }
}
