//! Names of stored objects. The names are the index: nothing else says what is stored.
//!
//! ```text
//! documents/<ab>/<document>                                                       the manifest: the document exists
//! latents/<compressor>/<ratio>-<codec>/<ab>/<shard>                               a shard's windows
//! corrections/<compressor>/<ratio>-<codec>/<decoder>/<arithmetic>/<margin>/<ab>/<shard>
//! ```
//! `<ab>` is the first two digits of the name that follows. A shard's objects carry everything that they depend on in
//! their names, so that documents share them. Those of latents that came from outside end in `.<digest>` of their
//! content: they serve only the document that was put with them.

use std::fmt;

use c3_proto::{DocumentId, Fingerprint, LatentCodec, ShardHash};
use object_store::path::Path;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    Manifest,
    Latents,
    Corrections,
}

impl ObjectKind {
    /// The byte that says so in the object.
    pub(crate) fn tag(self) -> u8 {
        match self {
            Self::Manifest => 1,
            Self::Latents => 2,
            Self::Corrections => 3,
        }
    }
}

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(Path);

impl Name {
    /// The path below the root of the store.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a shard's latents depend on, beside its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LatentSettings {
    pub(crate) compressor: Fingerprint,
    pub(crate) ratio: u32,
    pub(crate) codec: LatentCodec,
}

/// What a shard's corrections depend on, beside its latents.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CorrectionSettings {
    pub(crate) decoder: Fingerprint,
    pub(crate) arithmetic: String,
    pub(crate) margin: f32,
}

/// Digest of a shard's objects that came from outside.
pub(crate) type OutsideDigest = [u8; 32];

/// Where a shard's objects lie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ShardNames {
    pub(crate) latents: Name,
    /// `None` where nobody verified the shard.
    pub(crate) corrections: Option<Name>,
}

impl ShardNames {
    /// The names of a shard's objects.
    pub(crate) fn new(
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
        let name = |folders: &[&[String]]| {
            let folders = folders.concat();
            Name(folders.into_iter().chain([fan_out(&shard).to_owned(), file.clone()]).collect())
        };
        let corrections = corrections.map(|CorrectionSettings { decoder, arithmetic, margin }| {
            let checked_by = [decoder.to_string(), arithmetic.clone(), margin.to_string()];
            name(&[&["corrections".to_owned()], &made_by, &checked_by])
        });
        Self { latents: name(&[&["latents".to_owned()], &made_by]), corrections }
    }
}

impl ShardNames {
    /// Bytes of memory that the names take.
    pub(crate) fn weight(&self) -> usize {
        let names = [Some(&self.latents), self.corrections.as_ref()];
        names.into_iter().flatten().map(|name| name.0.as_ref().len()).sum()
    }
}

/// Folder of all manifests.
const DOCUMENTS: &str = "documents";

/// The name of a document's manifest.
pub(crate) fn manifest(id: DocumentId) -> Name {
    let id = id.to_string();
    Name([DOCUMENTS, fan_out(&id), &id].into_iter().collect())
}

/// The narrowest folder that holds all manifests whose id begins with these digits.
pub(crate) fn manifests(prefix: &str) -> Path {
    let folder = (prefix.len() >= FAN_OUT_DIGITS).then(|| fan_out(prefix));
    [DOCUMENTS].into_iter().chain(folder).collect()
}

/// The document whose manifest lies there.
pub(crate) fn document_at(path: &Path) -> Option<DocumentId> {
    path.filename()?.parse().ok()
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

        let names = ShardNames::new(shard, &latents, Some(&corrections), None);
        assert_eq!(names.latents.to_string(), format!("latents/{c}/20-q4_0/{ab}/{s}"));
        let expected = format!("corrections/{c}/20-q4_0/{d}/cpu%2Fint8 ..%2Fx/2.5/{ab}/{s}");
        assert_eq!(names.corrections.unwrap().to_string(), expected);

        let outside = ShardNames::new(shard, &latents, None, Some([7; 32]));
        assert_eq!(outside.latents.to_string(), format!("latents/{c}/20-q4_0/{ab}/{s}.{}", "07".repeat(32)));
        assert_eq!(outside.corrections, None);
    }

    #[test]
    fn a_document_is_found_by_its_manifests_name() {
        let id = DocumentId::of(b"text");
        let name = manifest(id);
        assert_eq!(document_at(name.path()), Some(id));
        assert!(name.path().prefix_matches(&manifests(&id.to_string())));
        assert_eq!(manifests("a"), Path::from("documents"));
    }
}
