//! Protobuf messages that several stored objects share. The field numbers equal those of the `c3.v1` protocol, in which
//! the first stores were written. The two may diverge.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use c3_types::{
    AutoRatio, Base, ByteRange, Cascade, Corrections, DocumentName, Expected, Fingerprint, Invalid, Labels,
    LatentCodec, LatentGroup, LatentGroupParts, Provenance, PutName, Window, WindowHash, WriteOptions,
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

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AutoRatioPayload {
    #[prost(uint32, repeated, tag = "1")]
    ratios: Vec<u32>,
    #[prost(double, optional, tag = "2")]
    fidelity_min: Option<f64>,
    #[prost(uint64, optional, tag = "3")]
    stored_bytes_max: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PutNamePayload {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, optional, tag = "3")]
    expected: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteOptionsPayload {
    #[prost(string, tag = "1")]
    cascade: String,
    #[prost(uint32, tag = "2")]
    ratio: u32,
    #[prost(int32, tag = "3")]
    codec: i32,
    #[prost(bool, tag = "4")]
    skip_verification: bool,
    #[prost(float, optional, tag = "5")]
    margin: Option<f32>,
    #[prost(uint64, optional, tag = "6")]
    bytes: Option<u64>,
    #[prost(message, optional, tag = "7")]
    auto_ratio: Option<AutoRatioPayload>,
    #[prost(uint64, tag = "8")]
    ttl_seconds: u64,
    #[prost(message, optional, tag = "9")]
    name: Option<PutNamePayload>,
    #[prost(btree_map = "string, string", tag = "10")]
    labels: BTreeMap<String, String>,
    #[prost(string, tag = "11")]
    upload: String,
    #[prost(string, tag = "12")]
    base: String,
    #[prost(string, tag = "13")]
    append_to: String,
}

/// Returns the number that stands for a codec in stored objects.
pub(crate) fn codec_number(codec: LatentCodec) -> i32 {
    match codec {
        LatentCodec::F32 => 1,
        LatentCodec::Bf16 => 2,
        LatentCodec::Q8_0 => 3,
        LatentCodec::Q4_0 => 4,
    }
}

/// Returns the codec that a number stands for; `None` for 0.
pub(crate) fn codec(number: i32) -> Result<Option<LatentCodec>, Invalid> {
    let known = LatentCodec::ALL.into_iter().find(|&codec| codec_number(codec) == number);
    match known {
        None if number != 0 => Err(Invalid::new("codec", format!("{number} stands for no codec"))),
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
    /// Checks the corrections of a window of `tokens` tokens.
    pub(crate) fn decode_for(&self, tokens: u32) -> Result<Corrections, Invalid> {
        Corrections::from_columns(&self.positions, &self.tokens, tokens)
    }
}

impl WindowPayload {
    /// Returns a window of a shard; `bytes` counts from the start of the shard.
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

impl From<&WriteOptions> for WriteOptionsPayload {
    fn from(options: &WriteOptions) -> Self {
        let (base, append_to) = match &options.base {
            Some(Base::Edited(id)) => (id.as_str(), ""),
            Some(Base::Appended(id)) => ("", id.as_str()),
            None => ("", ""),
        };
        let auto_ratio = options.auto_ratio.as_ref().map(|auto| {
            let (fidelity_min, stored_bytes_max) = auto.bounds();
            AutoRatioPayload { ratios: auto.ratios.clone(), fidelity_min, stored_bytes_max }
        });
        let name = options.name.as_ref().map(|put| PutNamePayload {
            namespace: put.name.namespace().to_string(),
            name: put.name.name().to_owned(),
            expected: put.expected.to_token(),
        });
        Self {
            cascade: options.cascade.clone().unwrap_or_default(),
            ratio: options.ratio.unwrap_or_default(),
            codec: options.codec.map_or(0, codec_number),
            skip_verification: options.skip_verification,
            margin: options.margin,
            bytes: options.bytes,
            auto_ratio,
            ttl_seconds: options.ttl_seconds.unwrap_or_default(),
            name,
            labels: options.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            upload: options.upload.as_ref().map_or_else(String::new, ToString::to_string),
            base: base.to_owned(),
            append_to: append_to.to_owned(),
        }
    }
}

impl TryFrom<WriteOptionsPayload> for WriteOptions {
    type Error = Invalid;

    fn try_from(payload: WriteOptionsPayload) -> Result<Self, Invalid> {
        let auto_ratio =
            payload.auto_ratio.map(|auto| AutoRatio::new(auto.ratios, auto.fidelity_min, auto.stored_bytes_max));
        let name = payload.name.map(|put| {
            let name = DocumentName::from_parts(put.namespace, put.name)?;
            Ok::<_, Invalid>(PutName { name, expected: Expected::from_token(put.expected) })
        });
        let base = match (payload.base.as_str(), payload.append_to.as_str()) {
            ("", "") => None,
            (id, "") => Some(Base::Edited(id.parse()?)),
            (_, id) => Some(Base::Appended(id.parse()?)),
        };
        let options = Self {
            cascade: Some(payload.cascade).filter(|name| !name.is_empty()),
            ratio: Some(payload.ratio).filter(|&ratio| ratio != 0),
            codec: codec(payload.codec)?,
            skip_verification: payload.skip_verification,
            margin: payload.margin,
            bytes: payload.bytes,
            auto_ratio: auto_ratio.transpose()?,
            ttl_seconds: Some(payload.ttl_seconds).filter(|&seconds| seconds != 0),
            upload: Some(payload.upload).filter(|name| !name.is_empty()).map(|name| name.parse()).transpose()?,
            base,
            name: name.transpose()?,
            labels: Labels::new(payload.labels)?,
        };
        options.check()?;
        Ok(options)
    }
}
