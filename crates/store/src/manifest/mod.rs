//! The manifest: what a document is made of. Writing it makes the document; a later version switches all at once.

mod payload;

use blake3::hazmat::ChainingValue;
use bytes::Bytes;
use c3_proto::{CascadeName, DocumentId, LatentCodec, ShardHash, pb};

use super::layout::{CorrectionSettings, LatentSettings, OutsideDigest, ShardFamilies, ShardNames};
use super::shard::{ShardCorrections, ShardLatents};
use super::stamp::Stamp;

/// What a document is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) id: DocumentId,
    /// Above that of every earlier manifest of the document.
    pub(crate) version: Stamp,
    pub(crate) cascade: CascadeName,
    /// 0 where its shards have different ones.
    pub(crate) ratio: u32,
    pub(crate) codec: LatentCodec,
    /// How the corrections were made; `None` where nobody verified the document.
    pub(crate) verification: Option<Verification>,
    pub(crate) created_unix_ms: u64,
    /// From when on it is not found, if ever.
    pub(crate) expires_unix_ms: Option<u64>,
    pub(crate) shards: Vec<ShardEntry>,
    /// Complete subtrees of the text's hash, so that it can go on ([`crate::hash`]); none where nobody kept them.
    pub(crate) subtrees: Vec<ChainingValue>,
}

/// How corrections are made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verification {
    /// Logits by which a token must win to need no correction.
    pub(crate) margin: f32,
    /// Name of the order and precision in which the decoder computed.
    pub(crate) arithmetic: String,
}

/// A shard of a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShardEntry {
    pub(crate) hash: ShardHash,
    pub(crate) ratio: u32,
    /// Bytes of each of its windows, none empty.
    pub(crate) window_bytes: Vec<u32>,
    pub(crate) tokens: u64,
    pub(crate) latents: u64,
    /// Tokens right without help.
    pub(crate) right: u64,
    pub(crate) corrections: u64,
    /// Bytes of its objects.
    pub(crate) stored_bytes: u64,
    /// Set where its latents came from outside.
    pub(crate) outside: Option<OutsideDigest>,
    pub(crate) place: Place,
}

/// Where a shard's latents and corrections lie.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    /// In objects of these generations, which documents share.
    Objects { latents: Stamp, corrections: Stamp },
    /// In the manifest: what the objects' payloads would be.
    Inline { latents: Bytes, corrections: Option<Bytes> },
}

impl Manifest {
    /// The ratio of a document with these shards: theirs, 0 where they differ, `planned` where there are none.
    pub(crate) fn ratio_of(shards: &[ShardEntry], planned: u32) -> u32 {
        match shards {
            [] => planned,
            [first, rest @ ..] if rest.iter().all(|shard| shard.ratio == first.ratio) => first.ratio,
            _ => 0,
        }
    }

    /// Bytes of the text.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(ShardEntry::bytes).sum()
    }

    /// Whether it is past its time.
    pub(crate) fn is_expired(&self, now_unix_ms: u64) -> bool {
        self.expires_unix_ms.is_some_and(|expires| expires <= now_unix_ms)
    }

    /// Bytes of memory that it takes, near enough.
    pub(crate) fn weight(&self) -> usize {
        let of = |shard: &ShardEntry| {
            let inline = match &shard.place {
                Place::Objects { .. } => 0,
                Place::Inline { latents, corrections } => {
                    latents.len() + corrections.as_ref().map_or(0, Bytes::len)
                }
            };
            size_of::<ShardEntry>() + size_of_val(&shard.window_bytes[..]) + inline
        };
        size_of::<Self>() + self.shards.iter().map(of).sum::<usize>()
    }

    /// Where all generations of a shard's objects lie.
    pub(crate) fn families(&self, shard: &ShardEntry) -> ShardFamilies {
        let latents =
            LatentSettings { compressor: self.cascade.compressor, ratio: shard.ratio, codec: self.codec };
        let verification = self.verification.as_ref();
        let corrections = verification.map(|Verification { margin, arithmetic }| CorrectionSettings {
            decoder: self.cascade.decoder,
            arithmetic: arithmetic.clone(),
            margin: *margin,
        });
        ShardFamilies::new(shard.hash, &latents, corrections.as_ref(), shard.outside)
    }

    /// Where a shard's objects lie; `None` where it has none.
    pub(crate) fn names(&self, shard: &ShardEntry) -> Option<ShardNames> {
        let Place::Objects { latents, corrections } = shard.place else { return None };
        let families = self.families(shard);
        Some(ShardNames {
            latents: families.latents.at(latents),
            corrections: families.corrections.map(|family| family.at(corrections)),
        })
    }

    /// What callers are told of the document, whose manifest takes so many bytes.
    pub(crate) fn document(&self, manifest_bytes: u64) -> pb::Document {
        let sum = |part: fn(&ShardEntry) -> u64| self.shards.iter().map(part).sum();
        let verification = self.verification.as_ref();
        pb::Document {
            id: self.id.to_wire(),
            bytes: self.bytes(),
            tokens: sum(|shard| shard.tokens),
            latents: sum(|shard| shard.latents),
            ratio: self.ratio,
            codec: self.codec.to_wire(),
            verified: verification.is_some(),
            tokens_right: sum(|shard| shard.right),
            corrections: sum(|shard| shard.corrections),
            margin: verification.map_or(0.0, |how| how.margin),
            cascade: Some(self.cascade.to_wire()),
            arithmetic: verification.map_or_else(String::new, |how| how.arithmetic.clone()),
            shards: self.shards.len() as u64,
            windows: sum(|shard| shard.window_bytes.len() as u64),
            stored_bytes: manifest_bytes + sum(|shard| shard.stored_bytes),
            created_unix_ms: self.created_unix_ms,
            expires_unix_ms: self.expires_unix_ms,
            ..Default::default()
        }
    }
}

impl ShardEntry {
    /// The entry of a shard with these latents and corrections, in the manifest itself.
    pub(crate) fn new(
        hash: ShardHash,
        latents: &ShardLatents,
        corrections: Option<&ShardCorrections>,
    ) -> Self {
        let place = Place::Inline {
            latents: latents.encode(),
            corrections: corrections.map(ShardCorrections::encode),
        };
        let window_bytes = latents.windows.iter().map(|window| window.bytes.end - window.bytes.start);
        let (right, corrections) = corrections.map_or((0, 0), ShardCorrections::counts);
        let window_bytes = window_bytes.collect();
        let ratio = latents.windows.first().map_or(0, |window| window.group.ratio());
        let (tokens, latents) = latents.counts();
        Self {
            hash,
            ratio,
            window_bytes,
            tokens,
            latents,
            right,
            corrections,
            stored_bytes: 0,
            outside: None,
            place,
        }
    }

    /// Bytes of its latents and corrections, wherever they lie.
    pub(crate) fn bytes_at_rest(&self) -> u64 {
        let inline = match &self.place {
            Place::Inline { latents, corrections } => {
                latents.len() + corrections.as_ref().map_or(0, Bytes::len)
            }
            Place::Objects { .. } => 0,
        };
        self.stored_bytes + inline as u64
    }

    /// Bytes of its text.
    pub(crate) fn bytes(&self) -> u64 {
        self.window_bytes.iter().map(|&bytes| u64::from(bytes)).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use c3_proto::Fingerprint;
    use proptest::prelude::*;

    use super::*;

    /// A manifest of shards with these windows.
    pub(crate) fn manifest(windows: &[Vec<u32>], verified: bool) -> Manifest {
        let shards = windows.iter().map(|window_bytes| ShardEntry {
            hash: ShardHash::of(format!("{window_bytes:?}").as_bytes()),
            ratio: 20,
            window_bytes: window_bytes.clone(),
            tokens: 40,
            latents: 2,
            right: 39,
            corrections: 1,
            stored_bytes: 400,
            outside: None,
            place: Place::Objects { latents: Stamp::NONE, corrections: Stamp::NONE },
        });
        Manifest {
            id: DocumentId::of(b"text"),
            version: Stamp::NONE,
            cascade: CascadeName {
                name: "c3-mini".to_owned(),
                compressor: Fingerprint::of(b"compressor"),
                decoder: Fingerprint::of(b"decoder"),
            },
            ratio: 20,
            codec: LatentCodec::Q4_0,
            verification: verified.then(|| Verification { margin: 2.0, arithmetic: "f32".to_owned() }),
            created_unix_ms: 1,
            expires_unix_ms: None,
            shards: shards.collect(),
            subtrees: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn a_manifest_is_read_as_written(
            windows in prop::collection::vec(prop::collection::vec(1u32..5000, 1..5), 0..5),
            verified: bool,
            outside: Option<[u8; 32]>,
            mixed: bool,
            inline: Option<(Vec<u8>, Option<Vec<u8>>)>,
            expires_unix_ms: Option<u64>,
            subtrees: Vec<[u8; 32]>,
        ) {
            let mut manifest = manifest(&windows, verified);
            manifest.version = Stamp::after(Stamp::NONE);
            manifest.expires_unix_ms = expires_unix_ms;
            manifest.subtrees = subtrees;
            manifest.ratio = if mixed { 0 } else { 20 };
            for (shard, number) in manifest.shards.iter_mut().zip(1..) {
                shard.outside = outside;
                shard.ratio = if mixed { 10 * number } else { 20 };
                if let Some((latents, corrections)) = inline.clone() {
                    let corrections = corrections.map(Bytes::from);
                    shard.place = Place::Inline { latents: latents.into(), corrections };
                }
            }
            prop_assert_eq!(Manifest::decode(manifest.encode()).unwrap(), manifest);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Manifest::decode(bytes.into());
        }
    }

    #[test]
    fn a_document_sums_its_shards() {
        let document = manifest(&[vec![10, 20], vec![30]], true).document(100);
        assert_eq!((document.bytes, document.tokens, document.latents), (60, 80, 4));
        assert_eq!((document.shards, document.windows, document.stored_bytes), (2, 3, 900));
        assert_eq!((document.verified, document.tokens_right, document.corrections), (true, 78, 2));
    }
}
