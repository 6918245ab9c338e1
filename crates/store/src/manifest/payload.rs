//! Protobuf encoding of the manifest.

use bytes::Bytes;
use c3_types::{DocumentId, Invalid, ShardHash};
use prost::Message;

use super::{Manifest, Placement, ShardEntry, Verification};
use crate::object::version::Version;
use crate::payload::{CascadePayload, codec, codec_number};

/// Maximum of the counts of a shard. A shard has at most 16 KB of text, so all of them are far smaller.
const COUNT_MAX: u64 = u32::MAX as u64;

#[derive(Clone, PartialEq, Message)]
struct ManifestPayload {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(message, optional, tag = "2")]
    cascade: Option<CascadePayload>,
    #[prost(uint32, tag = "3")]
    ratio: u32,
    #[prost(int32, tag = "4")]
    codec: i32,
    #[prost(message, optional, tag = "5")]
    verification: Option<VerificationPayload>,
    #[prost(uint64, tag = "6")]
    created_unix_ms: u64,
    #[prost(message, repeated, tag = "7")]
    shards: Vec<ShardPayload>,
    #[prost(fixed64, tag = "8")]
    version: u64,
    #[prost(uint64, optional, tag = "9")]
    expires_unix_ms: Option<u64>,
    /// BLAKE3 chaining values of the document's subtrees, 32 bytes each, concatenated in text order. May be empty.
    ///
    /// BLAKE3 hashes a text as a binary tree over chunks of 1 KiB. A subtree covers consecutive chunks, whose number is
    /// a power of two. Together the subtrees cover all chunks but the last.
    #[prost(bytes = "bytes", tag = "10")]
    subtrees: Bytes,
    /// True if search does not find the document.
    #[prost(bool, tag = "11")]
    is_unsearchable: bool,
}

#[derive(Clone, PartialEq, Message)]
struct VerificationPayload {
    #[prost(float, tag = "1")]
    margin: f32,
    #[prost(string, tag = "2")]
    arithmetic: String,
}

#[derive(Clone, PartialEq, Message)]
struct ShardPayload {
    #[prost(bytes = "bytes", tag = "1")]
    hash: Bytes,
    #[prost(uint32, repeated, tag = "2")]
    window_bytes: Vec<u32>,
    #[prost(uint64, tag = "3")]
    tokens: u64,
    #[prost(uint64, tag = "4")]
    latents: u64,
    #[prost(uint64, tag = "5")]
    right: u64,
    #[prost(uint64, tag = "6")]
    corrections: u64,
    #[prost(uint64, tag = "7")]
    stored_bytes: u64,
    #[prost(bytes = "bytes", optional, tag = "8")]
    import_digest: Option<Bytes>,
    #[prost(fixed64, tag = "9")]
    latents_generation: u64,
    #[prost(fixed64, tag = "10")]
    corrections_generation: u64,
    #[prost(message, optional, tag = "11")]
    inline: Option<InlinePayload>,
    /// Line feeds of each window. Empty in manifests of versions that did not count them.
    #[prost(uint32, repeated, tag = "12")]
    window_newlines: Vec<u32>,
    /// Absent in manifests of versions that did not count them.
    #[prost(uint64, optional, tag = "13")]
    exact_windows: Option<u64>,
    /// Ratio of the shard; 0 if it equals that of the document.
    #[prost(uint32, tag = "16")]
    ratio: u32,
}

#[derive(Clone, PartialEq, Message)]
struct InlinePayload {
    #[prost(bytes = "bytes", tag = "1")]
    latents: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    corrections: Option<Bytes>,
}

impl Manifest {
    /// Encodes the payload of a manifest.
    pub(crate) fn encode(&self) -> Bytes {
        let verification = self.verification.as_ref();
        let payload = ManifestPayload {
            id: self.id.to_bytes(),
            cascade: Some((&self.cascade).into()),
            ratio: self.ratio,
            codec: codec_number(self.codec),
            verification: verification.map(|Verification { margin, arithmetic }| VerificationPayload {
                margin: *margin,
                arithmetic: arithmetic.clone(),
            }),
            created_unix_ms: self.created_unix_ms,
            shards: self.shards.iter().map(|shard| shard.to_payload(self.ratio)).collect(),
            version: self.version.to_bits(),
            expires_unix_ms: self.expires_unix_ms,
            subtrees: self.subtrees.concat().into(),
            is_unsearchable: !self.is_searchable,
        };
        payload.encode_to_vec().into()
    }

    /// Decodes and checks the payload of a manifest.
    pub(crate) fn decode(payload: Bytes) -> Result<Self, Invalid> {
        let payload = ManifestPayload::decode(payload);
        let payload = payload.map_err(|error| Invalid::new("payload", error.to_string()))?;
        let cascade = payload.cascade.ok_or_else(|| Invalid::new("cascade", "must be given"))?;
        let codec = codec(payload.codec)?;
        let verification = payload.verification;
        let (subtrees, []) = payload.subtrees.as_chunks() else {
            return Err(Invalid::new("subtrees", "must have 32 bytes each"));
        };
        let shards = payload.shards.into_iter().map(|shard| ShardEntry::from_payload(shard, payload.ratio));
        Ok(Self {
            id: DocumentId::try_from(payload.id.as_ref())?,
            cascade: cascade.try_into()?,
            ratio: payload.ratio,
            codec: codec.ok_or_else(|| Invalid::new("codec", "must be given"))?,
            verification: verification
                .map(|VerificationPayload { margin, arithmetic }| Verification { margin, arithmetic }),
            version: Version::from_bits(payload.version),
            created_unix_ms: payload.created_unix_ms,
            expires_unix_ms: payload.expires_unix_ms,
            is_searchable: !payload.is_unsearchable,
            shards: shards.collect::<Result<_, _>>()?,
            subtrees: subtrees.to_vec(),
        })
    }
}

impl ShardEntry {
    /// Encodes the entry for the manifest of a document whose ratio is `ratio`.
    fn to_payload(&self, ratio: u32) -> ShardPayload {
        let (latents_generation, corrections_generation, inline) = match &self.placement {
            Placement::Objects { latents, corrections } => (latents.to_bits(), corrections.to_bits(), None),
            Placement::Inline { latents, corrections } => {
                (0, 0, Some(InlinePayload { latents: latents.clone(), corrections: corrections.clone() }))
            }
        };
        ShardPayload {
            hash: self.hash.to_bytes(),
            window_bytes: self.window_bytes.clone(),
            tokens: self.tokens,
            latents: self.latents,
            right: self.right,
            corrections: self.corrections,
            stored_bytes: self.stored_bytes,
            import_digest: self.import_digest.map(|digest| Bytes::copy_from_slice(&digest)),
            latents_generation,
            corrections_generation,
            inline,
            window_newlines: self.window_newlines.clone(),
            exact_windows: self.exact_windows,
            ratio: if self.ratio == ratio { 0 } else { self.ratio },
        }
    }

    fn from_payload(payload: ShardPayload, ratio: u32) -> Result<Self, Invalid> {
        let wrong = |_| Invalid::new("import_digest", "must have 32 bytes");
        let (windows, counted) = (payload.window_bytes.len(), payload.window_newlines.len());
        if counted != 0 && counted != windows {
            return Err(Invalid::new("window_newlines", "must have one number for each window"));
        }
        // Sums over all shards then cannot overflow.
        let counts = [payload.tokens, payload.latents, payload.right, payload.corrections, payload.stored_bytes];
        if counts.iter().chain(&payload.exact_windows).any(|&count| count > COUNT_MAX) {
            return Err(Invalid::new("shard", format!("has a count over {COUNT_MAX}")));
        }
        Ok(Self {
            hash: ShardHash::try_from(payload.hash.as_ref())?,
            ratio: if payload.ratio == 0 { ratio } else { payload.ratio },
            window_bytes: payload.window_bytes,
            window_newlines: payload.window_newlines,
            exact_windows: payload.exact_windows,
            tokens: payload.tokens,
            latents: payload.latents,
            right: payload.right,
            corrections: payload.corrections,
            stored_bytes: payload.stored_bytes,
            import_digest: payload.import_digest.map(|bytes| bytes.as_ref().try_into().map_err(wrong)).transpose()?,
            placement: match payload.inline {
                Some(InlinePayload { latents, corrections }) => Placement::Inline { latents, corrections },
                None => Placement::Objects {
                    latents: Version::from_bits(payload.latents_generation),
                    corrections: Version::from_bits(payload.corrections_generation),
                },
            },
        })
    }
}
