//! The manifest: what a document is made of. Writing it makes the document; a later version switches all at once.

mod inventory;
mod payload;

use blake3::hazmat::ChainingValue;
use bytes::Bytes;
use c3_types::{Cascade, Document, DocumentId, Labels, LatentCodec, ShardHash};

pub use self::inventory::{Inventory, LocatedVersion, Location, ManifestCopy};
use crate::object::key::{
    self, CorrectionSettings, LatentSettings, OutsideDigest, ShardKeyPrefixes, ShardKeys,
};
use crate::object::version::Version;
use crate::shard::{self, ShardCorrections, ShardLatents};
use crate::{Error, Shard};

/// What a document is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub id: DocumentId,
    /// Above that of every earlier manifest of the document.
    pub version: Version,
    pub cascade: Cascade,
    /// 0 where its shards have different ones.
    pub ratio: u32,
    pub codec: LatentCodec,
    /// How the corrections were made; `None` where nobody verified the document.
    pub verification: Option<Verification>,
    pub created_unix_ms: u64,
    /// From when on it is not found, if ever.
    pub expires_unix_ms: Option<u64>,
    pub shards: Vec<ShardEntry>,
    /// Complete subtrees of the text's hash, so that it can go on ([`crate::hash`]); none where nobody kept them.
    pub subtrees: Vec<ChainingValue>,
}

/// How corrections are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Logits by which a token must win to need no correction.
    pub margin: f32,
    /// ObjectKey of the order and precision in which the decoder computed.
    pub arithmetic: String,
}

/// A shard of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardEntry {
    pub hash: ShardHash,
    pub ratio: u32,
    /// Bytes of each of its windows, none empty.
    pub window_bytes: Vec<u32>,
    pub tokens: u64,
    pub latents: u64,
    /// Tokens right without help.
    pub right: u64,
    pub corrections: u64,
    /// Bytes of its objects.
    pub stored_bytes: u64,
    /// Set where its latents came from outside.
    pub outside: Option<OutsideDigest>,
    pub placement: Placement,
}

/// Where a shard's latents and corrections lie.
#[derive(Clone, Debug, PartialEq)]
pub enum Placement {
    /// In objects of these generations, which documents share.
    Objects { latents: Version, corrections: Version },
    /// In the manifest: what the objects' payloads would be.
    Inline { latents: Bytes, corrections: Option<Bytes> },
}

impl Manifest {
    /// The ratio of a document with these shards: theirs, 0 where they differ, `planned` where there are none.
    pub fn ratio_of(shards: &[ShardEntry], planned: u32) -> u32 {
        match shards {
            [] => planned,
            [first, rest @ ..] if rest.iter().all(|shard| shard.ratio == first.ratio) => first.ratio,
            _ => 0,
        }
    }

    /// Bytes of the text.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(ShardEntry::bytes).sum()
    }

    /// Whether it is past its time.
    pub fn is_expired(&self, now_unix_ms: u64) -> bool {
        self.expires_unix_ms.is_some_and(|expires| expires <= now_unix_ms)
    }

    /// Bytes of memory that it takes, near enough.
    pub fn weight(&self) -> usize {
        let of = |shard: &ShardEntry| {
            let inline = match &shard.placement {
                Placement::Objects { .. } => 0,
                Placement::Inline { latents, corrections } => {
                    latents.len() + corrections.as_ref().map_or(0, Bytes::len)
                }
            };
            size_of::<ShardEntry>() + size_of_val(&shard.window_bytes[..]) + inline
        };
        size_of::<Self>() + self.shards.iter().map(of).sum::<usize>()
    }

    /// Where all generations of a shard's objects lie.
    pub fn key_prefixes(&self, shard: &ShardEntry) -> ShardKeyPrefixes {
        let latents =
            LatentSettings { compressor: self.cascade.compressor, ratio: shard.ratio, codec: self.codec };
        let verification = self.verification.as_ref();
        let corrections = verification.map(|Verification { margin, arithmetic }| CorrectionSettings {
            decoder: self.cascade.decoder,
            arithmetic: arithmetic.clone(),
            margin: *margin,
        });
        ShardKeyPrefixes::new(shard.hash, &latents, corrections.as_ref(), shard.outside)
    }

    /// Where a shard's objects lie; `None` where it has none.
    pub fn names(&self, shard: &ShardEntry) -> Option<ShardKeys> {
        let Placement::Objects { latents, corrections } = shard.placement else { return None };
        let families = self.key_prefixes(shard);
        Some(ShardKeys {
            latents: families.latents.at(latents),
            corrections: families.corrections.map(|family| family.at(corrections)),
        })
    }

    /// Decodes a shard that this manifest holds inline; `None` if the shard has objects of its own.
    pub fn inline_shard(&self, entry: &ShardEntry) -> Option<Result<Shard, Error>> {
        let Placement::Inline { latents, corrections } = &entry.placement else { return None };
        let decoded = || {
            let digest = shard::digest(latents);
            let latents = ShardLatents::decode(latents.clone())?;
            let corrections = corrections.clone();
            let corrections = corrections.map(|payload| ShardCorrections::decode(payload, &latents, digest));
            Ok(Shard::new(latents, corrections.transpose()?.map(|of| of.windows)))
        };
        let key = key::manifest(self.id, self.version);
        Some(decoded().map_err(|invalid| Error::invalid(&key, &invalid)))
    }

    /// What callers are told of the document, whose manifest takes so many bytes.
    pub fn document(&self, manifest_bytes: u64) -> Document {
        let sum = |part: fn(&ShardEntry) -> u64| self.shards.iter().map(part).sum();
        let verification =
            self.verification.as_ref().map(|Verification { margin, arithmetic }| c3_types::Verification {
                tokens_right: sum(|shard| shard.right),
                corrections: sum(|shard| shard.corrections),
                margin: *margin,
                arithmetic: arithmetic.clone(),
            });
        Document {
            id: self.id,
            bytes: self.bytes(),
            tokens: sum(|shard| shard.tokens),
            latents: sum(|shard| shard.latents),
            ratio: self.ratio,
            codec: self.codec,
            verification,
            cascade: self.cascade.clone(),
            shards: self.shards.len() as u64,
            windows: sum(|shard| shard.window_bytes.len() as u64),
            stored_bytes: manifest_bytes + sum(|shard| shard.stored_bytes),
            created_unix_ms: self.created_unix_ms,
            expires_unix_ms: self.expires_unix_ms,
            labels: Labels::default(),
            names: Vec::new(),
        }
    }
}

impl ShardEntry {
    /// The entry of a shard with these latents and corrections, in the manifest itself.
    pub fn new(hash: ShardHash, latents: &ShardLatents, corrections: Option<&ShardCorrections>) -> Self {
        let placement = Placement::Inline {
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
            placement,
        }
    }

    /// Bytes of its latents and corrections, wherever they lie.
    pub fn bytes_at_rest(&self) -> u64 {
        let inline = match &self.placement {
            Placement::Inline { latents, corrections } => {
                latents.len() + corrections.as_ref().map_or(0, Bytes::len)
            }
            Placement::Objects { .. } => 0,
        };
        self.stored_bytes + inline as u64
    }

    /// Bytes of its text.
    pub fn bytes(&self) -> u64 {
        self.window_bytes.iter().map(|&bytes| u64::from(bytes)).sum()
    }
}

#[cfg(test)]
pub mod tests {
    use c3_types::Fingerprint;
    use proptest::prelude::*;

    use super::*;

    /// A manifest of shards with these windows.
    pub fn manifest(windows: &[Vec<u32>], verified: bool) -> Manifest {
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
            placement: Placement::Objects { latents: Version::NONE, corrections: Version::NONE },
        });
        Manifest {
            id: DocumentId::of(b"text"),
            version: Version::NONE,
            cascade: Cascade {
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
            manifest.version = Version::after(Version::NONE);
            manifest.expires_unix_ms = expires_unix_ms;
            manifest.subtrees = subtrees;
            manifest.ratio = if mixed { 0 } else { 20 };
            for (shard, number) in manifest.shards.iter_mut().zip(1..) {
                shard.outside = outside;
                shard.ratio = if mixed { 10 * number } else { 20 };
                if let Some((latents, corrections)) = inline.clone() {
                    let corrections = corrections.map(Bytes::from);
                    shard.placement = Placement::Inline { latents: latents.into(), corrections };
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
        let verification = document.verification.unwrap();
        assert_eq!((verification.tokens_right, verification.corrections), (78, 2));
    }
}
