//! Protobuf messages that several kinds of stored objects contain. The first stores contained messages of the `c3.v1`
//! protocol itself, so the field numbers equal those of the protocol. Fields that were added later may differ from it.

use std::ops::Range;

use bytes::Bytes;
use c3_types::{
    ByteRange, Cascade, Corrections, Fingerprint, Invalid, LatentCodec, LatentGroup, LatentGroupParts, Provenance,
    Window, WindowHash,
};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CascadePayload {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    compressor_fingerprint: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    decoder_fingerprint: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LatentGroupPayload {
    #[prost(uint32, tag = "1")]
    latents: u32,
    #[prost(uint32, tag = "2")]
    width: u32,
    #[prost(int32, tag = "3")]
    codec: i32,
    #[prost(bytes = "bytes", tag = "4")]
    data: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    checksum: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    compressor_fingerprint: Bytes,
    #[prost(uint32, tag = "7")]
    tokens: u32,
    #[prost(uint32, tag = "8")]
    ratio: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PlainCorrectionsPayload {
    #[prost(uint32, repeated, tag = "1")]
    positions: Vec<u32>,
    #[prost(uint32, repeated, tag = "2")]
    tokens: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WindowPayload {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(uint64, tag = "2")]
    start: u64,
    #[prost(uint64, tag = "3")]
    end: u64,
    #[prost(message, optional, tag = "4")]
    group: Option<LatentGroupPayload>,
    #[prost(bytes = "bytes", tag = "5")]
    hash: Bytes,
    #[prost(message, optional, tag = "6")]
    corrections: Option<PlainCorrectionsPayload>,
}

/// Converts a codec to its number in stored objects.
pub(crate) fn codec_number(codec: LatentCodec) -> i32 {
    match codec {
        LatentCodec::F32 => 1,
        LatentCodec::Bf16 => 2,
        LatentCodec::Q8_0 => 3,
        LatentCodec::Q4_0 => 4,
    }
}

/// Converts a number in a stored object to its codec; 0 becomes `None`. Fails for other unknown numbers.
pub(crate) fn codec(number: i32) -> Result<Option<LatentCodec>, Invalid> {
    let known = LatentCodec::ALL.into_iter().find(|&codec| codec_number(codec) == number);
    match known {
        None if number != 0 => Err(Invalid::new("codec", format!("{number} is not the number of a codec"))),
        known => Ok(known),
    }
}

impl From<&Cascade> for CascadePayload {
    fn from(cascade: &Cascade) -> Self {
        Self {
            name: cascade.name.clone(),
            compressor_fingerprint: cascade.compressor.to_bytes(),
            decoder_fingerprint: cascade.decoder.to_bytes(),
        }
    }
}

impl TryFrom<CascadePayload> for Cascade {
    type Error = Invalid;

    fn try_from(payload: CascadePayload) -> Result<Self, Invalid> {
        let compressor = Fingerprint::try_from(payload.compressor_fingerprint.as_ref())?;
        let decoder = Fingerprint::try_from(payload.decoder_fingerprint.as_ref())?;
        Self::new(payload.name, compressor, decoder)
    }
}

impl From<&LatentGroup> for LatentGroupPayload {
    fn from(group: &LatentGroup) -> Self {
        let LatentGroupParts { latents, width, codec, data, checksum, provenance } = group.parts().clone();
        Self {
            latents,
            width,
            codec: codec_number(codec),
            data,
            checksum,
            compressor_fingerprint: provenance.compressor.to_bytes(),
            tokens: provenance.tokens,
            ratio: provenance.ratio,
        }
    }
}

impl TryFrom<LatentGroupPayload> for LatentGroup {
    type Error = Invalid;

    fn try_from(payload: LatentGroupPayload) -> Result<Self, Invalid> {
        let LatentGroupPayload { latents, width, data, checksum, tokens, ratio, .. } = payload;
        let codec = codec(payload.codec)?.ok_or_else(|| Invalid::new("group.codec", "must be given"))?;
        let compressor = Fingerprint::try_from(payload.compressor_fingerprint.as_ref())?;
        let provenance = Provenance { compressor, tokens, ratio };
        Self::new(LatentGroupParts { latents, width, codec, data, checksum, provenance })
    }
}

impl From<&Corrections> for PlainCorrectionsPayload {
    fn from(corrections: &Corrections) -> Self {
        let corrections = corrections.as_slice();
        Self {
            positions: corrections.iter().map(|correction| correction.position).collect(),
            tokens: corrections.iter().map(|correction| correction.token).collect(),
        }
    }
}

impl PlainCorrectionsPayload {
    /// Decodes and checks the corrections of a window of `tokens` tokens.
    pub(crate) fn decode_for(&self, tokens: u32) -> Result<Corrections, Invalid> {
        Corrections::from_columns(&self.positions, &self.tokens, tokens)
    }
}

impl WindowPayload {
    /// Encodes a window. `bytes` is its range of text bytes from the start of the shard.
    pub(crate) fn new(
        bytes: &Range<u32>,
        group: &LatentGroup,
        hash: WindowHash,
        corrections: Option<&Corrections>,
    ) -> Self {
        Self {
            shard: 0,
            start: bytes.start.into(),
            end: bytes.end.into(),
            group: Some(group.into()),
            hash: hash.to_bytes(),
            corrections: corrections.map(PlainCorrectionsPayload::from),
        }
    }
}

impl TryFrom<WindowPayload> for Window {
    type Error = Invalid;

    fn try_from(payload: WindowPayload) -> Result<Self, Invalid> {
        ByteRange::new(Some(payload.start), Some(payload.end))?;
        let group = payload.group.ok_or_else(|| Invalid::new("window.group", "must be given"))?;
        let group = LatentGroup::try_from(group)?;
        let corrections = payload.corrections.map(|corrections| corrections.decode_for(group.tokens()));
        Ok(Self {
            shard: payload.shard,
            bytes: payload.start..payload.end,
            hash: WindowHash::try_from(payload.hash.as_ref())?,
            corrections: corrections.transpose()?,
            group,
        })
    }
}
