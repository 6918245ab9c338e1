//! Latent groups.

use bytes::Bytes;
use serde::Serialize;

use crate::{Fingerprint, Invalid, LatentCodec, limits};

/// The compressor's last hidden states at its query positions: a tensor `latents` × `width`, in encoded form. It stands
/// for one window, which is a run of text tokens.
///
/// The sizes and the checksum are valid, and the floats are finite and within ±10^6. The fingerprint of the compressor
/// is not checked here but by decoder nodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatentGroup(LatentGroupParts);

/// The fields of a latent group before they are checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LatentGroupParts {
    /// Number of latents.
    pub latents: u32,
    /// Width of a latent, d₁.
    pub width: u32,
    /// Encoding of the floats.
    pub codec: LatentCodec,
    /// Encoded floats, latent after latent.
    pub data: Bytes,
    /// BLAKE3 hash of `data`.
    pub checksum: Bytes,
    /// Source of the latents.
    pub provenance: Provenance,
}

/// Source of a latent group: its window and the compressor that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// Fingerprint of the compressor.
    pub compressor: Fingerprint,
    /// Number of text tokens in the window.
    pub tokens: u32,
    /// Requested text tokens per latent.
    pub ratio: u32,
}

impl LatentGroup {
    /// Checks that the sizes fit [`limits`] and `codec`, that the checksum is right, and that all floats are finite and
    /// not absurdly large.
    pub fn new(parts: LatentGroupParts) -> Result<Self, Invalid> {
        let bounded = |field, value, most| match value {
            0 => Err(Invalid::new(field, "must not be 0")),
            value if value > most => Err(Invalid::new(field, format!("{value} is over the limit of {most}"))),
            _ => Ok(()),
        };
        let LatentGroupParts { latents, width, codec, ref data, ref checksum, provenance } = parts;
        bounded("group.latents", latents, limits::LATENTS_MAX)?;
        bounded("group.width", width, limits::WIDTH_MAX)?;
        bounded("group.tokens", provenance.tokens, limits::WINDOW_TOKENS_MAX)?;
        bounded("group.ratio", provenance.ratio, limits::WINDOW_TOKENS_MAX)?;
        let (expected, given) = (codec.bytes(latents, width)?, data.len());
        if given != expected {
            let problem = format!("{given} bytes given, {latents} x {width} in {codec} has {expected}");
            return Err(Invalid::new("group.data", problem));
        }
        if blake3::hash(data).as_bytes() != checksum.as_ref() {
            return Err(Invalid::new("group.checksum", "the data does not have this BLAKE3 hash"));
        }
        // A comparison with NaN is false.
        if !codec.decode(data).iter().all(|x| x.abs() <= limits::LATENT_MAGNITUDE_MAX) {
            let problem = format!("a value is not finite or not within ±{}", limits::LATENT_MAGNITUDE_MAX);
            return Err(Invalid::new("group.data", problem));
        }
        Ok(Self(parts))
    }

    /// Encodes `values`, `width` floats per latent.
    ///
    /// Errors: a value is not finite before encoding or after decoding, or a size is invalid for [`Self::new`].
    pub fn encode(values: &[f32], width: u32, codec: LatentCodec, provenance: Provenance) -> Result<Self, Invalid> {
        if !values.iter().all(|x| x.is_finite()) {
            return Err(Invalid::new("data", "a latent is not finite"));
        }
        let latents = u32::try_from(values.len() / (width.max(1) as usize)).unwrap_or(u32::MAX);
        let data = Bytes::from(codec.encode(values));
        let checksum = Bytes::copy_from_slice(blake3::hash(&data).as_bytes());
        Self::new(LatentGroupParts { latents, width, codec, data, checksum, provenance })
    }

    /// Returns the fields.
    pub fn parts(&self) -> &LatentGroupParts {
        &self.0
    }

    /// Decodes the floats: `latents` × `width`, latent after latent.
    pub fn values(&self) -> Vec<f32> {
        self.0.codec.decode(&self.0.data)
    }

    /// Number of latents.
    pub fn latents(&self) -> u32 {
        self.0.latents
    }

    /// Width of a latent, d₁.
    pub fn width(&self) -> u32 {
        self.0.width
    }

    /// Encoding of the floats.
    pub fn codec(&self) -> LatentCodec {
        self.0.codec
    }

    /// The encoded floats.
    pub fn data(&self) -> &Bytes {
        &self.0.data
    }

    /// Fingerprint of the compressor that made the latents.
    pub fn compressor(&self) -> Fingerprint {
        self.0.provenance.compressor
    }

    /// Number of text tokens in the window.
    pub fn tokens(&self) -> u32 {
        self.0.provenance.tokens
    }

    /// Requested text tokens per latent.
    pub fn ratio(&self) -> u32 {
        self.0.provenance.ratio
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinite_and_absurd_values_are_refused() {
        let provenance = Provenance { compressor: Fingerprint::of(b"model"), tokens: 40, ratio: 20 };
        for (codec, start) in [
            (LatentCodec::Q4_0, &half::f16::INFINITY.to_le_bytes()[..]),
            (LatentCodec::Q8_0, &half::f16::NAN.to_le_bytes()),
            (LatentCodec::Q8_0, &half::f16::MAX.to_le_bytes()),
            (LatentCodec::Bf16, &half::bf16::MAX.to_le_bytes()),
            (LatentCodec::F32, &(-1.1e6f32).to_le_bytes()),
        ] {
            let group = LatentGroup::encode(&[1.0; 128], 64, codec, provenance).unwrap();
            let mut data = group.data().to_vec();
            data[..start.len()].copy_from_slice(start);
            let checksum = Bytes::copy_from_slice(blake3::hash(&data).as_bytes());
            let parts = LatentGroupParts { data: data.into(), checksum, ..group.parts().clone() };
            assert_eq!(LatentGroup::new(parts).unwrap_err().field, "group.data", "{codec} {start:?}");
        }
        assert!(LatentGroup::encode(&[limits::LATENT_MAGNITUDE_MAX; 64], 64, LatentCodec::F32, provenance).is_ok());
    }
}
