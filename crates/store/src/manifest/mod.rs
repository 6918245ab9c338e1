//! The manifest of a document. Storing a manifest creates the document. A later version replaces it atomically.

mod inventory;
mod payload;

use blake3::hazmat::ChainingValue;
use bytes::Bytes;
use c3_types::{Cascade, Document, DocumentId, Labels, LatentCodec, ShardHash};

pub(crate) use self::inventory::{Inventory, ManifestCopy};
pub use self::inventory::{LocatedVersion, Location};
use crate::object::key::{self, CorrectionSettings, ImportDigest, LatentSettings, ShardKeyPrefixes, ShardKeys};
use crate::object::version::Version;
use crate::shard::{self, Encoded, ShardCorrections, ShardLatents, StoredCorrections, StoredLatents};
use crate::{Error, Shard, StoredObject};

/// A document: its settings and its shards.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// BLAKE3 of the text.
    pub id: DocumentId,
    /// Higher than the version of every earlier manifest of the document.
    pub version: Version,
    /// Compressor and decoder with which the latents and corrections were made.
    pub cascade: Cascade,
    /// Text tokens per latent; 0 if the shards have different ratios.
    pub ratio: u32,
    /// Encoding of the latents.
    pub codec: LatentCodec,
    /// Settings of the corrections; `None` if the document was stored without verification.
    pub verification: Option<Verification>,
    /// Time of the first put, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// Time when the document expires, in milliseconds since 1970; `None` if it never does.
    pub expires_unix_ms: Option<u64>,
    /// True if search finds the document.
    pub is_searchable: bool,
    /// Shards in text order.
    pub shards: Vec<ShardEntry>,
    /// BLAKE3 chaining values of the complete subtrees in the text's hash tree. An append continues the hash from them.
    /// May be empty.
    pub subtrees: Vec<ChainingValue>,
}

/// Settings with which a decoder computed the corrections.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Minimum lead over the runner-up, in logits, at which a correctly predicted token needs no correction.
    pub margin: f32,
    /// Name of the decoder's arithmetic: the order and precision of its operations.
    pub arithmetic: String,
}

/// A shard of a document: a part of its text that is compressed as a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardEntry {
    /// BLAKE3 of the shard's text.
    pub hash: ShardHash,
    /// Text tokens per latent.
    pub ratio: u32,
    /// Text bytes of each window, in text order. A window is the part of a shard that is decoded as a unit. No window
    /// is empty.
    pub window_bytes: Vec<u32>,
    /// Number of line feeds in each window; empty if unknown, as in manifests of versions that did not count them.
    pub window_newlines: Vec<u32>,
    /// Number of windows that the decoder restores exactly without corrections; `None` if unknown, as in manifests of
    /// versions that did not count them, or if the windows were not verified.
    pub exact_windows: Option<u64>,
    /// Number of text tokens.
    pub tokens: u64,
    /// Number of latents.
    pub latents: u64,
    /// Number of tokens that the decoder predicts correctly without corrections; 0 if they were not verified.
    pub right: u64,
    /// Number of corrections: tokens that are stored, because the decoder predicts them wrongly or by too small a
    /// margin.
    pub corrections: u64,
    /// Total size of the shard's objects in bytes; 0 for an inline shard.
    pub stored_bytes: u64,
    /// Hash of the imported payloads; `None` if the latents were not imported.
    pub import_digest: Option<ImportDigest>,
    /// Location of latents and corrections.
    pub placement: Placement,
}

/// Location of a shard's latents and corrections.
#[derive(Clone, Debug, PartialEq)]
pub enum Placement {
    /// Objects of their own, which several documents may share.
    Objects {
        /// Version of the latents object.
        latents: Version,
        /// Version of the corrections object; [`Version::NONE`] if the document was not verified.
        corrections: Version,
    },
    /// Payloads within the manifest.
    Inline {
        /// Payload of the latents.
        latents: Bytes,
        /// Payload of the corrections, if the document was verified.
        corrections: Option<Bytes>,
    },
}

impl Placement {
    /// Returns the number of payload bytes in the manifest; 0 for objects.
    pub(crate) fn inline_bytes(&self) -> usize {
        match self {
            Self::Objects { .. } => 0,
            Self::Inline { latents, corrections } => latents.len() + corrections.as_ref().map_or(0, Bytes::len),
        }
    }
}

impl Manifest {
    /// Returns the ratio that all shards have, 0 if their ratios differ, or `planned` if there are no shards.
    pub fn ratio_of(shards: &[ShardEntry], planned: u32) -> u32 {
        match shards {
            [] => planned,
            [first, rest @ ..] if rest.iter().all(|shard| shard.ratio == first.ratio) => first.ratio,
            _ => 0,
        }
    }

    /// Returns the length of the document's text in bytes.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(ShardEntry::bytes).sum()
    }

    /// Returns whether the document has expired at `now_unix_ms`, in milliseconds since 1970.
    pub fn is_expired(&self, now_unix_ms: u64) -> bool {
        self.expires_unix_ms.is_some_and(|expires| expires <= now_unix_ms)
    }

    /// Returns this manifest, strengthened to give the guarantees of the `stored` manifests of the same document too.
    /// It gets the earliest creation time and the latest expiry; no expiry counts as the latest. It keeps its shards
    /// and settings, unless a stored manifest is verified with a higher margin: then it gets those of the stored one.
    /// Ratio, codec and cascade are no guarantees: a verified text is exact with any of them.
    pub(crate) fn merged_with(&self, stored: &[StoredObject<Self>]) -> Self {
        stored.iter().map(|stored| &stored.value).fold(self.clone(), |merged, stored| {
            let content = if stored.margin() > merged.margin() { stored.clone() } else { merged.clone() };
            Self {
                created_unix_ms: merged.created_unix_ms.min(stored.created_unix_ms),
                expires_unix_ms: merged.expires_unix_ms.zip(stored.expires_unix_ms).map(|(a, b)| a.max(b)),
                ..content
            }
        })
    }

    /// Returns the properties that a put may strengthen but not weaken: time of creation, expiry and margin of the
    /// verification.
    pub(crate) fn guarantees(&self) -> (u64, Option<u64>, Option<f32>) {
        (self.created_unix_ms, self.expires_unix_ms, self.margin())
    }

    /// Returns the margin of the verification. Without verification, returns `None`, which compares as less than any
    /// margin.
    pub(crate) fn margin(&self) -> Option<f32> {
        self.verification.as_ref().map(|verification| verification.margin)
    }

    /// Returns the approximate memory use in bytes.
    pub(crate) fn weight(&self) -> usize {
        let shard_weight = |shard: &ShardEntry| {
            size_of::<ShardEntry>()
                + size_of_val(&shard.window_bytes[..])
                + size_of_val(&shard.window_newlines[..])
                + shard.placement.inline_bytes()
        };
        size_of::<Self>() + self.shards.iter().map(shard_weight).sum::<usize>()
    }

    /// Returns the key prefixes of a shard's objects.
    pub fn key_prefixes(&self, shard: &ShardEntry) -> ShardKeyPrefixes {
        let latents = LatentSettings { compressor: self.cascade.compressor, ratio: shard.ratio, codec: self.codec };
        let verification = self.verification.as_ref();
        let corrections = verification.map(|Verification { margin, arithmetic }| CorrectionSettings {
            decoder: self.cascade.decoder,
            arithmetic: arithmetic.clone(),
            margin: *margin,
        });
        ShardKeyPrefixes::new(shard.hash, &latents, corrections.as_ref(), shard.import_digest)
    }

    /// Returns the keys of a shard's objects; `None` for an inline shard.
    pub(crate) fn keys(&self, shard: &ShardEntry) -> Option<ShardKeys> {
        let Placement::Objects { latents, corrections } = shard.placement else { return None };
        Some(self.key_prefixes(shard).at(latents, corrections))
    }

    /// Iterates over the keys of all objects that the manifest refers to.
    pub(crate) fn object_keys(&self) -> impl Iterator<Item = key::ObjectKey> {
        let keys = self.shards.iter().filter_map(|shard| self.keys(shard));
        keys.flat_map(|ShardKeys { latents, corrections }| std::iter::once(latents).chain(corrections))
    }

    /// Decodes an inline shard; `None` if the shard has objects of its own.
    pub(crate) fn inline_shard(&self, entry: &ShardEntry) -> Option<Result<Shard, Error>> {
        let Placement::Inline { latents, corrections } = &entry.placement else { return None };
        let decoded = || {
            let digest = shard::digest(latents);
            let latents = ShardLatents::decode(latents.clone())?;
            let corrections = corrections.clone();
            let corrections = corrections.map(|payload| ShardCorrections::decode(payload, &latents, digest));
            Ok(Shard::new(latents, corrections.transpose()?.map(|decoded| decoded.windows)))
        };
        let key = key::manifest(self.id, self.version);
        Some(decoded().map_err(|invalid| Error::invalid(&key, &invalid)))
    }

    /// Describes the document to callers, without its names and labels. `manifest_bytes` is the manifest's stored size.
    pub fn document(&self, manifest_bytes: u64) -> Document {
        let sum = |part: fn(&ShardEntry) -> u64| self.shards.iter().map(part).sum();
        let verification =
            self.verification.as_ref().map(|Verification { margin, arithmetic }| c3_types::Verification {
                tokens_right: sum(|shard| shard.right),
                corrections: sum(|shard| shard.corrections),
                exact_windows: self.shards.iter().map(ShardEntry::known_exact_windows).sum(),
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
    /// Creates the entry of an inline shard, whose payloads are in the manifest.
    pub fn inline(
        hash: ShardHash,
        latents: &Encoded<ShardLatents>,
        corrections: Option<&Encoded<ShardCorrections>>,
    ) -> Self {
        let placement = Placement::Inline {
            latents: latents.payload.clone(),
            corrections: corrections.map(|corrections| corrections.payload.clone()),
        };
        Self::new(hash, &latents.value, corrections.map(|corrections| &corrections.value), placement)
    }

    /// Creates the entry of a shard whose payloads are in objects. Leaves `import_digest` at `None`.
    pub fn in_objects(hash: ShardHash, latents: &StoredLatents, corrections: Option<&StoredCorrections>) -> Self {
        let placement = Placement::Objects {
            latents: latents.version,
            corrections: corrections.map_or(Version::NONE, |corrections| corrections.version),
        };
        let stored_bytes = latents.bytes + corrections.map_or(0, |corrections| corrections.bytes);
        let corrections = corrections.map(|corrections| &corrections.value);
        Self { stored_bytes, ..Self::new(hash, &latents.value, corrections, placement) }
    }

    fn new(
        hash: ShardHash,
        latents: &ShardLatents,
        corrections: Option<&ShardCorrections>,
        placement: Placement,
    ) -> Self {
        let window_bytes = latents.windows.iter().map(|window| window.bytes.end - window.bytes.start);
        let exact_windows = corrections.map(ShardCorrections::exact_windows);
        let (right, corrections) = corrections.map_or((0, 0), ShardCorrections::counts);
        let (tokens, latent_count) = latents.counts();
        Self {
            hash,
            ratio: latents.windows.first().map_or(0, |window| window.group.ratio()),
            window_bytes: window_bytes.collect(),
            window_newlines: Vec::new(),
            exact_windows,
            tokens,
            latents: latent_count,
            right,
            corrections,
            stored_bytes: 0,
            import_digest: None,
            placement,
        }
    }

    /// Counts the line feeds of each window. `text` is the text of the shard.
    pub fn with_newlines(mut self, text: &[u8]) -> Self {
        let mut rest = text;
        let newlines = self.window_bytes.iter().map(|&bytes| {
            let (window, after) = rest.split_at(rest.len().min(bytes as usize));
            rest = after;
            window.iter().filter(|&&byte| byte == b'\n').count() as u32
        });
        self.window_newlines = newlines.collect();
        self
    }

    /// Returns the number of windows that need no corrections; `None` if it is unknown.
    fn known_exact_windows(&self) -> Option<u64> {
        // If all tokens are right, all windows are exact.
        self.exact_windows.or_else(|| (self.right == self.tokens).then_some(self.window_bytes.len() as u64))
    }

    /// Returns the total size in bytes of latents and corrections, inline or in objects.
    pub fn bytes_at_rest(&self) -> u64 {
        self.stored_bytes + self.placement.inline_bytes() as u64
    }

    /// Returns the length of the shard's text in bytes.
    pub fn bytes(&self) -> u64 {
        self.window_bytes.iter().map(|&bytes| u64::from(bytes)).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use c3_types::Fingerprint;
    use proptest::prelude::*;

    use super::*;

    /// Returns a manifest. `windows` contains the window lengths of each shard, in bytes.
    pub(crate) fn manifest(windows: &[Vec<u32>], verified: bool) -> Manifest {
        let shards = windows.iter().map(|window_bytes| ShardEntry {
            hash: ShardHash::of(format!("{window_bytes:?}").as_bytes()),
            ratio: 20,
            window_bytes: window_bytes.clone(),
            window_newlines: vec![1; window_bytes.len()],
            exact_windows: verified.then_some(1),
            tokens: 40,
            latents: 2,
            right: 39,
            corrections: 1,
            stored_bytes: 400,
            import_digest: None,
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
            is_searchable: true,
            shards: shards.collect(),
            subtrees: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn a_manifest_survives_a_round_trip(
            windows in prop::collection::vec(prop::collection::vec(1u32..5000, 1..5), 0..5),
            verified: bool,
            import_digest: Option<[u8; 32]>,
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
                if mixed {
                    (shard.window_newlines, shard.exact_windows) = (Vec::new(), None);
                }
                shard.import_digest = import_digest;
                shard.ratio = if mixed { 10 * number } else { 20 };
                if let Some((latents, corrections)) = inline.clone() {
                    let corrections = corrections.map(Bytes::from);
                    shard.placement = Placement::Inline { latents: latents.into(), corrections };
                }
            }
            prop_assert_eq!(Manifest::decode(manifest.encode()).unwrap(), manifest);
        }

        #[test]
        fn arbitrary_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Manifest::decode(bytes.into());
        }
    }

    #[test]
    fn counts_whose_sum_would_overflow_are_refused() {
        let mut manifest = manifest(&[vec![10], vec![20]], true);
        manifest.shards[0].tokens = 1 << 40;
        assert_eq!(Manifest::decode(manifest.encode()).unwrap_err().field, "shard");
    }

    #[test]
    fn a_document_sums_its_shards() {
        let document = manifest(&[vec![10, 20], vec![30]], true).document(100);
        assert_eq!((document.bytes, document.tokens, document.latents), (60, 80, 4));
        assert_eq!((document.shards, document.windows, document.stored_bytes), (2, 3, 900));
        let verification = document.verification.unwrap();
        assert_eq!((verification.tokens_right, verification.corrections), (78, 2));
        assert_eq!(verification.exact_windows, Some(2));
    }

    #[test]
    fn exact_windows_are_unknown_in_old_manifests_with_wrong_tokens() {
        let mut manifest = manifest(&[vec![10, 20], vec![30]], true);
        let exact = |manifest: &Manifest| manifest.document(0).verification.unwrap().exact_windows;
        manifest.shards[0].exact_windows = None;
        assert_eq!(exact(&manifest), None);
        manifest.shards[0].right = manifest.shards[0].tokens;
        assert_eq!(exact(&manifest), Some(3));
    }

    #[test]
    fn line_feeds_are_counted_by_window() {
        let shard = manifest(&[vec![4, 2, 3]], true).shards.remove(0).with_newlines(b"a\n\nbc\nd\ne");
        assert_eq!(shard.window_newlines, [2, 1, 1]);
    }
}
