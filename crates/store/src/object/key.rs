//! Names of stored objects. The names are the index: nothing else says what is stored.
//!
//! ```text
//! documents/<ab>/<document>.<stamp>                                               a manifest: the document exists
//! packs/<stamp>                                                                   many small documents' manifests
//! deleted/<ab>/<document>.<stamp>                                                 versions up to this one are gone
//! latents/<compressor>/<ratio>-<codec>/<ab>/<shard>.<stamp>                       a shard's windows
//! corrections/<compressor>/<ratio>-<codec>/<decoder>/<arithmetic>/<margin>/<ab>/<shard>.<stamp>
//! uploads/<name>.<stamp>                                                          a put that is under way
//! names/<namespace>/<ab>/<name>.<generation>                                      which document has the name
//! labels/<ab>/<document>.<generation>                                             a document's labels
//! gc/<stamp>                                                                      what a sweep is about to remove
//! ```
//! `<ab>` is the first two digits of the name that follows, of names those of its BLAKE3 hash. A shard's objects carry everything that they depend on in
//! their names, so that documents share them; those of latents that came from outside have `.<digest>` of their content
//! before the stamp: they serve only the document that was put with them. The stamp is a document's version or an
//! object's generation. Nothing is ever replaced. Objects of format 1 have no stamp.

use std::fmt;

use c3_types::{DocumentId, DocumentName, Fingerprint, LatentCodec, Namespace, ShardHash, UploadName};
use object_store::path::Path;
use percent_encoding::percent_decode_str;

use crate::object::version::Version;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    Manifest,
    Latents,
    Corrections,
    PackIndex,
    Tombstone,
    PendingDeletes,
    Upload,
    Name,
    Labels,
}

impl ObjectKind {
    /// The byte that says so in the object.
    pub fn tag(self) -> u8 {
        match self {
            Self::Manifest => 1,
            Self::Latents => 2,
            Self::Corrections => 3,
            Self::PackIndex => 4,
            Self::Tombstone => 5,
            Self::PendingDeletes => 6,
            Self::Upload => 7,
            Self::Name => 8,
            Self::Labels => 9,
        }
    }
}

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey(Path);

impl ObjectKey {
    /// The object that lies there.
    pub fn at(path: Path) -> Self {
        Self(path)
    }

    /// The path below the root of the store.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The first folder of the path, which tells what lies there.
    pub fn folder(&self) -> &str {
        self.0.as_ref().split('/').next().unwrap_or_default()
    }

    /// What all generations of the object have in common, and which one this is.
    pub fn split_version(&self) -> (KeyPrefix, Version) {
        let whole = self.0.as_ref();
        match whole.rsplit_once('.').and_then(|(family, stamp)| Some((family, stamp.parse().ok()?))) {
            Some((family, stamp)) => (KeyPrefix(parsed(family)), stamp),
            None => (KeyPrefix(self.0.clone()), Version::NONE),
        }
    }

    /// Bytes of memory that the name takes.
    pub fn weight(&self) -> usize {
        self.0.as_ref().len()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What all generations of an object have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyPrefix(Path);

impl KeyPrefix {
    /// The object of this generation.
    pub fn at(&self, generation: Version) -> ObjectKey {
        match generation {
            Version::NONE => ObjectKey(self.0.clone()),
            stamp => ObjectKey(parsed(&format!("{}.{stamp}", self.0))),
        }
    }

    /// Its path, which the names of all generations begin with.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// What a shard's latents depend on, beside its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatentSettings {
    pub compressor: Fingerprint,
    pub ratio: u32,
    pub codec: LatentCodec,
}

/// What a shard's corrections depend on, beside its latents.
#[derive(Clone, Debug, PartialEq)]
pub struct CorrectionSettings {
    pub decoder: Fingerprint,
    pub arithmetic: String,
    pub margin: f32,
}

/// Digest of a shard's objects that came from outside.
pub type OutsideDigest = [u8; 32];

/// Where all generations of a shard's objects lie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShardKeyPrefixes {
    pub latents: KeyPrefix,
    /// `None` where nobody verified the shard.
    pub corrections: Option<KeyPrefix>,
}

/// Where a shard's objects lie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShardKeys {
    pub latents: ObjectKey,
    /// `None` where nobody verified the shard.
    pub corrections: Option<ObjectKey>,
}

impl ShardKeyPrefixes {
    /// The names of a shard's objects.
    pub fn new(
        shard: ShardHash,
        latents: &LatentSettings,
        corrections: Option<&CorrectionSettings>,
        outside: Option<OutsideDigest>,
    ) -> Self {
        let LatentSettings { compressor, ratio, codec } = latents;
        let made_by = [compressor.to_string(), format!("{ratio}-{codec}")];
        let shard = shard.to_string();
        let file = match outside {
            Some(digest) => format!("{shard}.{}", blake3::Hash::from_bytes(digest).to_hex()),
            None => shard.clone(),
        };
        let family = |folders: &[&[String]]| {
            let folders = folders.concat();
            KeyPrefix(folders.into_iter().chain([fan_out(&shard).to_owned(), file.clone()]).collect())
        };
        let corrections = corrections.map(|CorrectionSettings { decoder, arithmetic, margin }| {
            let checked_by = [decoder.to_string(), arithmetic.clone(), margin.to_string()];
            family(&[&[CORRECTIONS.to_owned()], &made_by, &checked_by])
        });
        Self { latents: family(&[&[LATENTS.to_owned()], &made_by]), corrections }
    }
}

impl ShardKeys {
    /// Both names, where there are two.
    pub fn all(&self) -> impl Iterator<Item = &ObjectKey> {
        std::iter::once(&self.latents).chain(&self.corrections)
    }

    /// Bytes of memory that the names take.
    pub fn weight(&self) -> usize {
        self.all().map(ObjectKey::weight).sum()
    }
}

/// Folder of all manifests.
pub const DOCUMENTS: &str = "documents";
/// Folder of all packs.
pub const PACKS: &str = "packs";
/// Folder of all tombstones.
pub const DELETED: &str = "deleted";
/// Folder of all latents.
pub const LATENTS: &str = "latents";
/// Folder of all corrections.
pub const CORRECTIONS: &str = "corrections";
/// Folder of the records of puts that are under way.
pub const UPLOADS: &str = "uploads";
/// Folder of all condemned lists.
pub const PENDING_DELETES: &str = "gc";
/// Folder of all names.
pub const NAMES: &str = "names";
/// Folder of all labels.
pub const LABELS: &str = "labels";

/// The name of a document's manifest in this version.
pub fn manifest(id: DocumentId, version: Version) -> ObjectKey {
    of_document(DOCUMENTS, id).at(version)
}

/// The name of what says that all versions up to this one are deleted.
pub fn tombstone(id: DocumentId, version: Version) -> ObjectKey {
    of_document(DELETED, id).at(version)
}

/// The name of a pack.
pub fn pack(stamp: Version) -> ObjectKey {
    ObjectKey([PACKS, &stamp.to_string()].into_iter().collect())
}

/// What the names of all records of a put begin with.
pub fn of_upload(name: &UploadName) -> KeyPrefix {
    KeyPrefix([UPLOADS, name.as_str()].into_iter().collect())
}

/// The name of a list of what a sweep is about to remove.
pub fn pending_deletes(stamp: Version) -> ObjectKey {
    ObjectKey([PENDING_DELETES, &stamp.to_string()].into_iter().collect())
}

/// What the names of a document in one of these folders begin with.
pub fn of_document(folder: &str, id: DocumentId) -> KeyPrefix {
    let id = id.to_string();
    KeyPrefix([folder, fan_out(&id), &id].into_iter().collect())
}

/// The folder of a document's objects below one of these folders.
pub fn folder_of(folder: &str, id: DocumentId) -> String {
    format!("{folder}/{}", fan_out(&id.to_string()))
}

/// Where all generations of a name lie. What a path cannot hold is escaped.
pub fn of_name(name: &DocumentName) -> KeyPrefix {
    let hash = blake3::hash(name.name().as_bytes()).to_hex();
    KeyPrefix([NAMES, name.namespace().as_str(), fan_out(&hash), name.name()].into_iter().collect())
}

/// The folder of all names of a namespace.
pub fn of_namespace(namespace: &Namespace) -> Path {
    [NAMES, namespace.as_str()].into_iter().collect()
}

/// The name of which a generation lies there.
pub fn name_at(path: &Path) -> Option<DocumentName> {
    let (family, _) = ObjectKey::at(path.clone()).split_version();
    let mut parts = family.path().as_ref().split('/').skip(1);
    let part = |escaped: &str| percent_decode_str(escaped).decode_utf8().ok().map(String::from);
    let (namespace, _, name) = (part(parts.next()?)?, parts.next()?, part(parts.next()?)?);
    DocumentName::from_parts(namespace, name).ok()
}

/// The narrowest folder that holds all ids that begin with these digits.
pub fn narrowest(folder: &str, prefix: &str) -> Path {
    let fan_out = (prefix.len() >= FAN_OUT_DIGITS).then(|| fan_out(prefix));
    [folder].into_iter().chain(fan_out).collect()
}

/// The document, and its version, whose manifest or tombstone lies there.
pub fn document_at(path: &Path) -> Option<(DocumentId, Version)> {
    let file = path.filename()?;
    match file.split_once('.') {
        Some((id, version)) => Some((id.parse().ok()?, version.parse().ok()?)),
        None => Some((file.parse().ok()?, Version::NONE)),
    }
}

/// The stamp that is all of the name.
pub fn version_at(path: &Path) -> Option<Version> {
    path.filename()?.parse().ok()
}

/// A path that was one before a stamp was taken from it or added.
fn parsed(path: &str) -> Path {
    Path::parse(path).expect("hexadecimal digits make no path invalid")
}

/// Digits that name the folder of an object, so that no folder holds all of them.
const FAN_OUT_DIGITS: usize = 2;

fn fan_out(hex: &str) -> &str {
    &hex[..FAN_OUT_DIGITS]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_all_that_an_object_depends_on() {
        let latents =
            LatentSettings { compressor: Fingerprint::of(b"c"), ratio: 20, codec: LatentCodec::Q4_0 };
        let arithmetic = "cpu/int8 ../x".to_owned();
        let corrections = CorrectionSettings { decoder: Fingerprint::of(b"d"), arithmetic, margin: 2.5 };
        let shard = ShardHash::of(b"s");
        let (c, d, s) = (Fingerprint::of(b"c"), Fingerprint::of(b"d"), shard.to_string());
        let ab = &s[..2];

        let families = ShardKeyPrefixes::new(shard, &latents, Some(&corrections), None);
        assert_eq!(families.latents.at(Version::NONE).to_string(), format!("latents/{c}/20-q4_0/{ab}/{s}"));
        let expected = format!("corrections/{c}/20-q4_0/{d}/cpu%2Fint8 ..%2Fx/2.5/{ab}/{s}");
        let corrections = families.corrections.unwrap();
        assert_eq!(corrections.at(Version::NONE).to_string(), expected);
        let stamp = Version::after(Version::NONE);
        let name = corrections.at(stamp);
        assert_eq!(name.to_string(), format!("{expected}.{stamp}"));
        assert_eq!(name.split_version(), (corrections.clone(), stamp));
        assert_eq!(corrections.at(Version::NONE).split_version(), (corrections, Version::NONE));

        let outside = ShardKeyPrefixes::new(shard, &latents, None, Some([7; 32]));
        let digest = "07".repeat(32);
        let name = outside.latents.at(stamp);
        assert_eq!(name.to_string(), format!("latents/{c}/20-q4_0/{ab}/{s}.{digest}.{stamp}"));
        assert_eq!(outside.latents.at(Version::NONE).split_version().1, Version::NONE);
        assert_eq!(outside.corrections, None);
    }

    #[test]
    fn a_name_is_found_by_its_path() {
        for typed in ["@book", "@team a/..x", "@書/100 %", "@a.0000000000000001"] {
            let name: DocumentName = typed.parse().unwrap();
            let object = of_name(&name).at(Version::from_bits(7));
            assert_eq!(name_at(object.path()), Some(name.clone()), "{object}");
            assert!(object.path().prefix_matches(&of_namespace(name.namespace())));
            assert_eq!(object.split_version(), (of_name(&name), Version::from_bits(7)));
            let file = object.path().filename().unwrap();
            assert!(file.is_ascii() && file.len() < 250, "{file}");
        }
        let ab = &blake3::hash(b"book").to_hex()[..2];
        let object = of_name(&"@book".parse().unwrap()).at(Version::from_bits(1));
        assert_eq!(object.to_string(), format!("names/default/{ab}/book.0000000000000001"));
    }

    #[test]
    fn a_document_is_found_by_its_manifests_name() {
        let id = DocumentId::of(b"text");
        for version in [Version::NONE, Version::after(Version::NONE)] {
            let name = manifest(id, version);
            assert_eq!(document_at(name.path()), Some((id, version)));
            assert!(name.path().prefix_matches(&narrowest(DOCUMENTS, &id.to_string())));
        }
        assert_eq!(narrowest(DOCUMENTS, "a"), Path::from("documents"));
    }
}
