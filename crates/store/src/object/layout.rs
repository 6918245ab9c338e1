//! Layout of a store: the forms of its keys. Other programs put entries of their own into folders and buckets, so an
//! entry belongs to the store only if its path has such a form. All other entries are *foreign*: the store counts them,
//! but never reads, lists or removes them.

use c3_types::UploadName;
use object_store::path::Path;

use crate::object::key::{
    self, CORRECTIONS, DELETED, DOCUMENTS, LABELS, LATENTS, NAMES, ObjectKey, PACKS, PENDING_DELETES, SEARCH, UPLOADS,
};
use crate::object::version::Version;

/// Folder of the store's files that are not objects: the store's identity, and the reserve of a local folder.
pub(crate) const META: &str = "meta";
/// Folder of the stores of all tenants but `default`, whose store is the root itself.
pub(crate) const TENANTS: &str = "tenants";

/// Meaning of a path below the root of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathKind {
    /// A folder that may contain objects.
    Folder,
    /// An object.
    Object,
    /// [`META`] or [`TENANTS`], or an entry in it. Such entries are no objects of this store.
    Meta,
    /// A path that does not belong to the store.
    Foreign,
}

/// Returns whether a part of a path has the form that its position in the path requires.
type PartCheck = fn(&str) -> bool;

/// Returns the meaning of a path. Depends only on the form of the path: nothing needs to exist there.
pub(crate) fn kind_of(path: &Path) -> PathKind {
    let mut parts = path.as_ref().split('/');
    let folder = parts.next().unwrap_or_default();
    let (folders, is_object): (&[PartCheck], fn(&Path) -> bool) = match folder {
        DOCUMENTS | DELETED | LABELS => (&[is_fan_out], is_document),
        LATENTS => (&[is_hash, is_any, is_fan_out], is_shard),
        CORRECTIONS => (&[is_hash, is_any, is_hash, is_any, is_any, is_fan_out], is_shard),
        NAMES => (&[is_any, is_fan_out], is_name),
        PACKS | PENDING_DELETES => (&[], is_version),
        UPLOADS => (&[], is_upload),
        SEARCH => (&[], |path| *path == *key::search_secret().path()),
        META | TENANTS => return PathKind::Meta,
        "" => return PathKind::Folder,
        _ => return PathKind::Foreign,
    };
    for is_expected in folders {
        match parts.next() {
            None => return PathKind::Folder,
            Some(part) if is_expected(part) => {}
            Some(_) => return PathKind::Foreign,
        }
    }
    match (parts.next(), parts.next()) {
        (None, _) => PathKind::Folder,
        (Some(_), None) if is_object(path) => PathKind::Object,
        _ => PathKind::Foreign,
    }
}

fn is_any(_: &str) -> bool {
    true
}

fn is_hash(part: &str) -> bool {
    part.len() == 2 * blake3::OUT_LEN && is_hex(part)
}

fn is_fan_out(part: &str) -> bool {
    part.len() == key::FAN_OUT_DIGITS && is_hex(part)
}

fn is_hex(part: &str) -> bool {
    part.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
}

fn is_document(path: &Path) -> bool {
    fanned_out(path).is_some_and(is_hash)
}

fn is_shard(path: &Path) -> bool {
    fanned_out(path).is_some_and(|file| match file.split_once('.') {
        Some((shard, digest)) => is_hash(shard) && is_hash(digest),
        None => is_hash(file),
    })
}

/// Returns the file name of a path, without the version; `None` unless it begins with the name of the file's folder.
fn fanned_out(path: &Path) -> Option<&str> {
    let (folders, file) = path.as_ref().rsplit_once('/')?;
    let (_, fan_out) = folders.rsplit_once('/')?;
    let prefix = match file.rsplit_once('.') {
        Some((prefix, version)) if version.parse::<Version>().is_ok() => prefix,
        _ => file,
    };
    prefix.starts_with(fan_out).then_some(prefix)
}

fn is_name(path: &Path) -> bool {
    let (prefix, generation) = ObjectKey::from_path(path.clone()).split_version();
    generation > Version::NONE && key::parse_name(path).is_some_and(|name| key::name_prefix(&name) == prefix)
}

fn is_version(path: &Path) -> bool {
    key::parse_version(path).is_some()
}

fn is_upload(path: &Path) -> bool {
    let parts = path.filename().and_then(|file| file.rsplit_once('.'));
    parts.is_some_and(|(name, version)| name.parse::<UploadName>().is_ok() && version.parse::<Version>().is_ok())
}

#[cfg(test)]
pub(super) mod tests {
    use c3_types::{DocumentId, Fingerprint, LatentCodec, ShardHash};

    use super::*;
    use crate::object::key::{CorrectionSettings, LatentSettings, ShardKeyPrefixes};

    /// Returns a key of each kind.
    pub(in crate::object) fn keys() -> Vec<ObjectKey> {
        let (id, version) = (DocumentId::of(b"text"), Version::after(Version::NONE));
        let latents = LatentSettings { compressor: Fingerprint::of(b"c"), ratio: 20, codec: LatentCodec::Q4_0 };
        let (decoder, arithmetic) = (Fingerprint::of(b"d"), "cpu/int8 #1".to_owned());
        let corrections = CorrectionSettings { decoder, arithmetic, margin: 2.5 };
        let mut keys = vec![
            key::manifest(id, version),
            key::manifest(id, Version::NONE),
            key::tombstone(id, version),
            key::pack(version),
            key::pending_deletes(version),
            key::search_secret(),
            key::upload_prefix(&"upload".parse().unwrap()).at(version),
            key::name_prefix(&"@team a/100 % #1".parse().unwrap()).at(Version::from_bits(1)),
            key::document_prefix(LABELS, id).at(Version::from_bits(1)),
        ];
        for digest in [None, Some([7; 32])] {
            let prefixes = ShardKeyPrefixes::new(ShardHash::of(b"s"), &latents, Some(&corrections), digest);
            keys.extend(prefixes.at(version, Version::NONE).iter().cloned());
        }
        keys
    }

    #[test]
    fn keys_are_told_from_foreign_paths() {
        for key in keys() {
            let path = key.path();
            assert_eq!(kind_of(path), PathKind::Object, "{key}");
            let parts = Vec::from_iter(path.parts());
            for depth in 0..parts.len() {
                assert_eq!(kind_of(&parts[..depth].iter().cloned().collect()), PathKind::Folder, "{key} {depth}");
            }
            let (folder, file) = path.as_ref().rsplit_once('/').unwrap();
            for foreign in
                [format!("{folder}/._{file}"), format!("{path}.bak"), format!("{path}/x"), format!("x/{file}")]
            {
                assert_eq!(kind_of(&Path::parse(&foreign).unwrap()), PathKind::Foreign, "{foreign}");
            }
        }
        for apart in ["meta/identity", "tenants", "tenants/acme/packs/1", "tenants/acme/mine"] {
            assert_eq!(kind_of(&Path::from(apart)), PathKind::Meta, "{apart}");
        }
        let id = DocumentId::of(b"text").to_string();
        let elsewhere = if id.starts_with("00") { "01" } else { "00" };
        for foreign in ["lost+found", "probe", "documents/lost+found", "latents/mine.txt", "names/a/b", "packs/1"] {
            assert_eq!(kind_of(&Path::from(foreign)), PathKind::Foreign, "{foreign}");
        }
        assert_eq!(kind_of(&Path::from(format!("documents/{elsewhere}/{id}"))), PathKind::Foreign);
        assert_eq!(kind_of(&Path::from(format!("documents/{}/{}", &id[..2], id.to_uppercase()))), PathKind::Foreign);
    }
}
