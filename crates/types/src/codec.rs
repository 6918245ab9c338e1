//! Encodings of the floats of a latent group, in the little-endian layouts of GGUF.
//!
//! As in the training of the default model, the Q4_0 encoder first rounds the scale to f16, then divides the values by
//! it. ggml divides by the unrounded scale, which changes a few values in 10,000. The decoder accepts both.

use half::{bf16, f16};

use crate::Invalid;

/// Values per block of Q8_0 or Q4_0; all values of a block share one scale.
const BLOCK: usize = 32;
const Q8_0_BLOCK_BYTES: usize = 2 + BLOCK;
const Q4_0_BLOCK_BYTES: usize = 2 + BLOCK / 2;

/// Encoding of the floats of a latent group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LatentCodec {
    /// 4 bytes per value: the compressor's floats, unchanged.
    F32,
    /// 2 bytes per value.
    Bf16,
    /// 34 bytes per 32 values.
    Q8_0,
    /// 18 bytes per 32 values.
    Q4_0,
}

impl LatentCodec {
    /// All encodings, largest first.
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::Q8_0, Self::Q4_0];

    /// Returns the encoding's name in flags and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// Returns the encoded size of a tensor `latents` × `width` in bytes. Errors: the encoding is Q8_0 or Q4_0, and
    /// `width` is not a multiple of 32, so that blocks would span latents.
    pub fn bytes(self, latents: u32, width: u32) -> Result<usize, Invalid> {
        let values = latents as usize * width as usize;
        let blocks = values / BLOCK;
        match self {
            Self::F32 => Ok(4 * values),
            Self::Bf16 => Ok(2 * values),
            _ if !(width as usize).is_multiple_of(BLOCK) => {
                let problem = format!("{} needs a multiple of {BLOCK}, {width} given", self.name());
                Err(Invalid::new("width", problem))
            }
            Self::Q8_0 => Ok(blocks * Q8_0_BLOCK_BYTES),
            Self::Q4_0 => Ok(blocks * Q4_0_BLOCK_BYTES),
        }
    }

    /// Encodes finite values in order. Q8_0 and Q4_0 drop values after the last whole block of 32.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
            Self::Q8_0 => values.chunks_exact(BLOCK).flat_map(encode_q8_0).collect(),
            Self::Q4_0 => values.chunks_exact(BLOCK).flat_map(encode_q4_0).collect(),
        }
    }

    /// Decodes data of [`Self::encode`] or ggml, in order. Drops bytes after the last whole value or block.
    pub fn decode(self, data: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Self::Bf16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            Self::Q8_0 => data.as_chunks().0.iter().flat_map(decode_q8_0).collect(),
            Self::Q4_0 => data.as_chunks().0.iter().flat_map(decode_q4_0).collect(),
        }
    }
}

impl std::str::FromStr for LatentCodec {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        let codec = Self::ALL.into_iter().find(|codec| codec.name() == name);
        codec.ok_or_else(|| Invalid::new("codec", format!("`{name}` is not one of f32, bf16, q8_0, q4_0")))
    }
}

impl std::fmt::Display for LatentCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

serde_str!(LatentCodec);

/// Returns the value with the largest magnitude; the first such value on a tie.
fn largest(block: &[f32]) -> f32 {
    block.iter().fold(0.0, |most: f32, &x| if x.abs() > most.abs() { x } else { most })
}

/// Returns `x / scale` rounded to an integer, ties to even; 0 if `scale` is 0.
fn quantize(x: f32, scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { (x / scale).round_ties_even() }
}

fn encode_q8_0(block: &[f32]) -> [u8; Q8_0_BLOCK_BYTES] {
    let scale = f16::from_f32(largest(block).abs() / 127.0);
    let mut bytes = [0; Q8_0_BLOCK_BYTES];
    bytes[..2].copy_from_slice(&scale.to_le_bytes());
    for (byte, &x) in bytes[2..].iter_mut().zip(block) {
        *byte = quantize(x, scale.to_f32()).clamp(-127.0, 127.0) as i8 as u8;
    }
    bytes
}

fn decode_q8_0(block: &[u8; Q8_0_BLOCK_BYTES]) -> [f32; BLOCK] {
    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
    std::array::from_fn(|i| f32::from(block[2 + i] as i8) * scale)
}

fn encode_q4_0(block: &[f32]) -> [u8; Q4_0_BLOCK_BYTES] {
    let scale = f16::from_f32(largest(block) / -8.0);
    let nibble = |x: f32| (quantize(x, scale.to_f32()) + 8.0).clamp(0.0, 15.0) as u8;
    let mut bytes = [0; Q4_0_BLOCK_BYTES];
    bytes[..2].copy_from_slice(&scale.to_le_bytes());
    for (i, byte) in bytes[2..].iter_mut().enumerate() {
        *byte = nibble(block[i]) | nibble(block[i + BLOCK / 2]) << 4;
    }
    bytes
}

fn decode_q4_0(block: &[u8; Q4_0_BLOCK_BYTES]) -> [f32; BLOCK] {
    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
    std::array::from_fn(|i| {
        let byte = block[2 + i % (BLOCK / 2)];
        let nibble = if i < BLOCK / 2 { byte & 15 } else { byte >> 4 };
        (f32::from(nibble) - 8.0) * scale
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decoding_restores_values_to_within_a_step(values in prop::collection::vec(-100.0f32..100.0, 64)) {
            for codec in LatentCodec::ALL {
                let written = codec.encode(&values);
                prop_assert_eq!(written.len(), codec.bytes(2, 32).unwrap());
                let read = codec.decode(&written);
                let most = values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let step = match codec {
                    LatentCodec::F32 => 0.0,
                    LatentCodec::Bf16 => most / 256.0,
                    LatentCodec::Q8_0 => most / 127.0,
                    LatentCodec::Q4_0 => most / 7.0,
                };
                for (x, y) in values.iter().zip(&read) {
                    prop_assert!((x - y).abs() <= step, "{} {} {}", codec, x, y);
                }
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for codec in LatentCodec::ALL {
            assert_eq!(codec.decode(&codec.encode(&[0.0; 32])), [0.0; 32]);
        }
    }

    #[test]
    fn a_width_that_is_no_multiple_of_the_block_is_refused() {
        assert_eq!(LatentCodec::Q4_0.bytes(1, 33).unwrap_err().field, "width");
        assert_eq!(LatentCodec::F32.bytes(1, 33), Ok(132));
    }
}
