//! Keys of stored objects. The keys are the only index of the store.
//!
//! ```text
//! documents/<ab>/<document>.<version>     a manifest: this version of the document exists
//! packs/<version>                         manifests of many small documents
//! deleted/<ab>/<document>.<version>       a tombstone: this version and all lower ones are deleted
//! latents/<compressor>/<ratio>-<codec>/<ab>/<shard>[.<digest>].<version>
//! corrections/<compressor>/<ratio>-<codec>/<decoder>/<arithmetic>/<margin>/<ab>/<shard>[.<digest>].<version>
//! uploads/<name>.<version>                progress of an unfinished put
//! names/<namespace>/<ab>/<name>.<generation>   the document that a name refers to
//! labels/<ab>/<document>.<generation>     labels of a document
//! gc/<version>                            a pending-delete list
//! search/key                              secret with which the terms of search are hashed
//! ```
//! `<ab>` is the first two digits of the document id or shard hash that follows it. In the key of a name, it is the
//! first two digits of the name's BLAKE3 hash.
//!
//! A *shard* is a part of a document's text. Its *latents* are the compressed form, from which a decoder restores the
//! text. Its *corrections* are the tokens that the decoder would get wrong. The key of latents or corrections contains
//! all settings on which their content depends, so documents can share these objects. Imported objects are shared only
//! if they are equal: `<digest>` is a hash of their content. Keys of format 1 have no version.

use std::fmt;

use c3_types::{DocumentId, DocumentName, Fingerprint, LatentCodec, Namespace, ShardHash, UploadName};
use object_store::path::Path;
use percent_encoding::percent_decode_str;

use crate::object::version::Version;

/// Folder of manifests.
pub(crate) const DOCUMENTS: &str = "documents";
/// Folder of packs.
pub(crate) const PACKS: &str = "packs";
/// Folder of tombstones.
pub const DELETED: &str = "deleted";
/// Folder of latents.
pub(crate) const LATENTS: &str = "latents";
/// Folder of corrections.
pub(crate) const CORRECTIONS: &str = "corrections";
/// Folder of upload sessions.
pub(crate) const UPLOADS: &str = "uploads";
/// Folder of pending-delete lists.
pub(crate) const PENDING_DELETES: &str = "gc";
/// Folder of names.
pub(crate) const NAMES: &str = "names";
/// Folder of the secret of search.
pub(crate) const SEARCH: &str = "search";
/// Folder of labels.
pub const LABELS: &str = "labels";

/// Number of leading hexadecimal digits of a hash that name the subfolder of an object. Such fan-out keeps each folder
/// small.
pub(crate) const FAN_OUT_DIGITS: usize = 2;

/// Top-level folders of all objects.
pub(crate) const FOLDERS: [&str; 10] =
    [DOCUMENTS, LATENTS, CORRECTIONS, PACKS, DELETED, PENDING_DELETES, UPLOADS, NAMES, LABELS, SEARCH];

/// Byte that identifies the kind of an object in its envelope, for each top-level folder.
const TAGS: [(&str, u8); 10] = [
    (DOCUMENTS, 1),
    (LATENTS, 2),
    (CORRECTIONS, 3),
    (PACKS, 4),
    (DELETED, 5),
    (PENDING_DELETES, 6),
    (UPLOADS, 7),
    (NAMES, 8),
    (LABELS, 9),
    (SEARCH, 10),
];

/// Key of an object: its path below the root of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Path);

impl ObjectKey {
    /// Returns the key of the object at this path.
    pub(crate) fn from_path(path: Path) -> Self {
        Self(path)
    }

    /// Returns the path below the root of the store.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of the folder that contains the object.
    pub(crate) fn folder(&self) -> &str {
        self.0.as_ref().rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Returns the byte that identifies the object's kind in its envelope; 0 if the key is in no known folder.
    pub(crate) fn tag(&self) -> u8 {
        TAGS.iter().find(|(tagged, _)| *tagged == self.root_folder()).map_or(0, |(_, tag)| *tag)
    }

    /// Returns the top-level folder.
    pub(crate) fn root_folder(&self) -> &str {
        self.0.as_ref().split('/').next().unwrap_or_default()
    }

    /// Splits the key into its prefix and version. A key without a version has [`Version::NONE`].
    pub(crate) fn split_version(&self) -> (KeyPrefix, Version) {
        // A foreign entry such as `..0000000000000001` has no prefix that is a path.
        let split = self.0.as_ref().rsplit_once('.').and_then(|(prefix, version)| {
            let prefix = Path::parse(prefix).ok().filter(|prefix| !prefix.as_ref().is_empty())?;
            Some((KeyPrefix(prefix), version.parse().ok()?))
        });
        split.unwrap_or_else(|| (KeyPrefix(self.0.clone()), Version::NONE))
    }

    /// Returns the memory use of the path in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.0.as_ref().len()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The part of a key before the version. All versions of an object have the same prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyPrefix(Path);

impl KeyPrefix {
    /// Returns the key of a version. For [`Version::NONE`] the key is the prefix itself.
    pub fn at(&self, version: Version) -> ObjectKey {
        match version {
            Version::NONE => ObjectKey(self.0.clone()),
            version => ObjectKey(valid_path(&format!("{}.{version}", self.0))),
        }
    }

    /// Returns the path that all keys with this prefix begin with.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// Settings on which a shard's latents depend, in addition to the shard's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatentSettings {
    /// Compressor that made the latents.
    pub compressor: Fingerprint,
    /// Text tokens per latent.
    pub ratio: u32,
    /// Encoding of the latents.
    pub codec: LatentCodec,
}

/// Settings on which a shard's corrections depend, in addition to the latents.
#[derive(Clone, Debug, PartialEq)]
pub struct CorrectionSettings {
    /// Decoder that verified the latents.
    pub decoder: Fingerprint,
    /// Name of the exact order and precision in which the decoder computed.
    pub arithmetic: String,
    /// Minimum lead over the runner-up, in logits, at which a correctly predicted token needs no correction.
    pub margin: f32,
}

/// Hash of the payloads of imported latents and corrections.
pub type ImportDigest = [u8; 32];

/// Key prefixes of a shard's objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShardKeyPrefixes {
    /// Prefix of the latents.
    pub latents: KeyPrefix,
    /// Prefix of the corrections; `None` for a shard that is stored without verification.
    pub corrections: Option<KeyPrefix>,
}

/// Keys of a shard's objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShardKeys {
    /// Key of the latents.
    pub latents: ObjectKey,
    /// Key of the corrections; `None` for a shard that is stored without verification.
    pub corrections: Option<ObjectKey>,
}

impl ShardKeyPrefixes {
    /// Returns the prefixes of a shard with these settings. `corrections` is `None` without verification.
    pub fn new(
        shard: ShardHash,
        latents: &LatentSettings,
        corrections: Option<&CorrectionSettings>,
        import_digest: Option<ImportDigest>,
    ) -> Self {
        let LatentSettings { compressor, ratio, codec } = latents;
        let latent_folders = [compressor.to_string(), format!("{ratio}-{codec}")];
        let shard = shard.to_string();
        let file = match import_digest {
            Some(digest) => format!("{shard}.{}", blake3::Hash::from_bytes(digest).to_hex()),
            None => shard.clone(),
        };
        let prefix = |folders: &[&[String]]| {
            let folders = folders.concat();
            KeyPrefix(folders.into_iter().chain([fan_out(&shard).to_owned(), file.clone()]).collect())
        };
        let corrections = corrections.map(|CorrectionSettings { decoder, arithmetic, margin }| {
            let correction_folders = [decoder.to_string(), arithmetic.clone(), margin.to_string()];
            prefix(&[&[CORRECTIONS.to_owned()], &latent_folders, &correction_folders])
        });
        Self { latents: prefix(&[&[LATENTS.to_owned()], &latent_folders]), corrections }
    }

    /// Returns the keys of these versions. `corrections` is ignored for a shard without verification.
    pub fn at(&self, latents: Version, corrections: Version) -> ShardKeys {
        ShardKeys {
            latents: self.latents.at(latents),
            corrections: self.corrections.as_ref().map(|prefix| prefix.at(corrections)),
        }
    }
}

impl ShardKeys {
    /// Iterates over the key of the latents and, if present, that of the corrections.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ObjectKey> {
        std::iter::once(&self.latents).chain(&self.corrections)
    }

    /// Returns the memory use of the keys in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.iter().map(ObjectKey::weight).sum()
    }
}

/// Returns the key of a document's manifest.
pub(crate) fn manifest(id: DocumentId, version: Version) -> ObjectKey {
    document_prefix(DOCUMENTS, id).at(version)
}

/// Returns the key of the tombstone that deletes `version` and all lower ones.
pub(crate) fn tombstone(id: DocumentId, version: Version) -> ObjectKey {
    document_prefix(DELETED, id).at(version)
}

/// Returns the key of a pack.
pub(crate) fn pack(version: Version) -> ObjectKey {
    ObjectKey([PACKS, &version.to_string()].into_iter().collect())
}

/// Returns the key prefix of an upload session's records.
pub(crate) fn upload_prefix(name: &UploadName) -> KeyPrefix {
    KeyPrefix([UPLOADS, name.as_str()].into_iter().collect())
}

/// Returns the key of the secret with which the terms of search are hashed.
pub(crate) fn search_secret() -> ObjectKey {
    ObjectKey([SEARCH, "key"].into_iter().collect())
}

/// Returns the key of a pending-delete list.
pub(crate) fn pending_deletes(version: Version) -> ObjectKey {
    ObjectKey([PENDING_DELETES, &version.to_string()].into_iter().collect())
}

/// Returns the key prefix of a document's manifests, tombstones or labels, according to `folder`.
pub(crate) fn document_prefix(folder: &str, id: DocumentId) -> KeyPrefix {
    let id = id.to_string();
    KeyPrefix([folder, fan_out(&id), &id].into_iter().collect())
}

/// Returns the path of the subfolder of `folder` that contains a document's manifests or tombstones.
pub(crate) fn document_folder(folder: &str, id: DocumentId) -> String {
    format!("{folder}/{}", fan_out(&id.to_string()))
}

/// Returns the key prefix of a name. Namespace and name are percent-encoded in it.
pub(crate) fn name_prefix(name: &DocumentName) -> KeyPrefix {
    let hash = blake3::hash(name.name().as_bytes()).to_hex();
    KeyPrefix([NAMES, name.namespace().as_str(), fan_out(&hash), name.name()].into_iter().collect())
}

/// Returns the number of the fan-out subfolder that contains a name.
pub(crate) fn name_subfolder(name: &DocumentName) -> u8 {
    blake3::hash(name.name().as_bytes()).as_bytes()[0]
}

/// Returns the folder that contains all names of a namespace.
pub(crate) fn namespace_folder(namespace: &Namespace) -> Path {
    [NAMES, namespace.as_str()].into_iter().collect()
}

/// Parses the namespace and name in a path below `names`; `None` if they are invalid.
pub(crate) fn parse_name(path: &Path) -> Option<DocumentName> {
    let (prefix, _) = ObjectKey::from_path(path.clone()).split_version();
    let mut parts = prefix.path().as_ref().split('/').skip(1);
    let decode = |escaped: &str| percent_decode_str(escaped).decode_utf8().ok().map(String::from);
    let (namespace, _, name) = (decode(parts.next()?)?, parts.next()?, decode(parts.next()?)?);
    DocumentName::from_parts(namespace, name).ok()
}

/// Parses the id and version in the path of a manifest, tombstone or labels; `None` for any other path.
pub(crate) fn parse_document(path: &Path) -> Option<(DocumentId, Version)> {
    let file = path.filename()?;
    match file.split_once('.') {
        Some((id, version)) => Some((id.parse().ok()?, version.parse().ok()?)),
        None => Some((file.parse().ok()?, Version::NONE)),
    }
}

/// Parses the version in the path of a pack or pending-delete list; `None` for any other path.
pub(crate) fn parse_version(path: &Path) -> Option<Version> {
    path.filename()?.parse().ok()
}

/// Parses a path that was made from a valid path by appending a version.
fn valid_path(path: &str) -> Path {
    Path::parse(path).expect("a path stays valid with a version")
}

fn fan_out(hex: &str) -> &str {
    &hex[..FAN_OUT_DIGITS]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_contain_everything_that_an_object_depends_on() {
        let latents = LatentSettings { compressor: Fingerprint::of(b"c"), ratio: 20, codec: LatentCodec::Q4_0 };
        let arithmetic = "cpu/int8 ../x".to_owned();
        let corrections = CorrectionSettings { decoder: Fingerprint::of(b"d"), arithmetic, margin: 2.5 };
        let shard = ShardHash::of(b"s");
        let (c, d, s) = (Fingerprint::of(b"c"), Fingerprint::of(b"d"), shard.to_string());
        let ab = &s[..2];

        let prefixes = ShardKeyPrefixes::new(shard, &latents, Some(&corrections), None);
        assert_eq!(prefixes.latents.at(Version::NONE).to_string(), format!("latents/{c}/20-q4_0/{ab}/{s}"));
        let expected = format!("corrections/{c}/20-q4_0/{d}/cpu%2Fint8 ..%2Fx/2.5/{ab}/{s}");
        let corrections = prefixes.corrections.unwrap();
        assert_eq!(corrections.at(Version::NONE).to_string(), expected);
        let version = Version::after(Version::NONE);
        let key = corrections.at(version);
        assert_eq!(key.to_string(), format!("{expected}.{version}"));
        assert_eq!(key.split_version(), (corrections.clone(), version));
        assert_eq!(corrections.at(Version::NONE).split_version(), (corrections, Version::NONE));

        let imported = ShardKeyPrefixes::new(shard, &latents, None, Some([7; 32]));
        let digest = "07".repeat(32);
        let key = imported.latents.at(version);
        assert_eq!(key.to_string(), format!("latents/{c}/20-q4_0/{ab}/{s}.{digest}.{version}"));
        assert_eq!(imported.latents.at(Version::NONE).split_version().1, Version::NONE);
        assert_eq!(imported.corrections, None);
    }

    #[test]
    fn a_name_is_parsed_from_its_path() {
        for typed in ["@book", "@team a/..x", "@team/notes/a.txt", "@書/100 %", "@a.0000000000000001"] {
            let name: DocumentName = typed.parse().unwrap();
            let object = name_prefix(&name).at(Version::from_bits(7));
            assert_eq!(parse_name(object.path()), Some(name.clone()), "{object}");
            assert!(object.path().prefix_matches(&namespace_folder(name.namespace())));
            assert_eq!(object.split_version(), (name_prefix(&name), Version::from_bits(7)));
            let file = object.path().filename().unwrap();
            assert!(file.is_ascii() && file.len() < 250, "{file}");
        }
        let ab = &blake3::hash(b"book").to_hex()[..2];
        let object = name_prefix(&"@book".parse().unwrap()).at(Version::from_bits(1));
        assert_eq!(object.to_string(), format!("names/default/{ab}/book.0000000000000001"));
        assert_eq!(format!("{:02x}", name_subfolder(&"@book".parse().unwrap())), ab);
    }

    #[test]
    fn a_document_is_parsed_from_its_manifests_key() {
        let id = DocumentId::of(b"text");
        for version in [Version::NONE, Version::after(Version::NONE)] {
            let key = manifest(id, version);
            assert_eq!(parse_document(key.path()), Some((id, version)));
            assert_eq!(key.folder(), format!("documents/{:02x}", id.as_bytes()[0]));
        }
    }
}
