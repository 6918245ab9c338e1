//! Paths of encrypted objects. They do not reveal hashes, names, labels or settings to whoever lists the store.
//!
//! ```text
//! documents/<ab>/<document>.<version>                 the key of an object
//! sealed/documents/<cd>/<encrypted document>.<version>    the path of the encrypted object
//! ```
//! The top-level folder and the version stay as they are. `<ab>` is permuted, and every other part is encrypted by
//! itself ([`NameKey`]). So a folder stays a folder, the versions of an object stay next to each other, and the path of
//! an object or a folder can be computed from its key, and back.
//!
//! The plaintext of a part is a byte and the part without percent-encoding. The byte is 0, or 1 if the part consists of
//! 64-digit hashes joined by dots; these are encrypted as 32 bytes each.

use object_store::path::{Path, PathPart};
use percent_encoding::percent_decode_str;

use crate::encryption::name_key::NameKey;
use crate::encryption::ring::SEALED;
use crate::object::key::{CORRECTIONS, DELETED, DOCUMENTS, FAN_OUT_DIGITS, LABELS, LATENTS, NAMES};
use crate::object::version::Version;

const TEXT: u8 = 0;
const HASHES: u8 = 1;
const HASH_DIGITS: usize = 2 * blake3::OUT_LEN;

/// Returns the path of the encrypted object with this key, or of the folder of encrypted objects with keys below this
/// folder.
pub(super) fn seal(names: &NameKey, plain: &Path) -> Path {
    let convert = |place: &Place<'_>, part: &str| {
        let (stem, version) = place.split(part);
        Some(match place.kind {
            _ if stem.is_empty() => version.to_owned(),
            Kind::FanOut => match number(stem) {
                Some(number) => hex::encode([names.permutation(place.folder)?.seal(number)]),
                None => stem.to_owned(),
            },
            Kind::Folder | Kind::Object => names.seal_part(&place.name(), &encode(stem)) + version,
        })
    };
    // A path that is no key stays as it is. Nothing is ever stored there.
    let sealed = convert_parts(plain, convert).unwrap_or_else(|| plain.clone());
    Path::from(SEALED).parts().chain(sealed.parts()).collect()
}

/// Returns the key of the encrypted object at this path, or the folder of the keys of all objects below this path.
/// Returns `None` if no encrypted object of this store can be there.
pub(super) fn open(names: &NameKey, sealed: &Path) -> Option<Path> {
    let below = Path::from_iter(sealed.prefix_match(&Path::from(SEALED))?);
    convert_parts(&below, |place, part| {
        let (stem, version) = place.split(part);
        Some(match place.kind {
            _ if stem.is_empty() => version.to_owned(),
            Kind::FanOut => hex::encode([names.permutation(place.folder)?.open(number(stem)?)]),
            Kind::Folder | Kind::Object => decode(&names.open_part(&place.name(), stem)?)? + version,
        })
    })
}

/// Meaning of a part of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    FanOut,
    Object,
}

/// Place of a part in a path.
struct Place<'a> {
    /// Top-level folder.
    folder: &'a str,
    /// Number of the part, where the top-level folder is 0.
    depth: usize,
    kind: Kind,
}

impl Place<'_> {
    fn name(&self) -> String {
        format!("{}/{}", self.folder, self.depth)
    }

    /// Splits the file name of an object into its stem and its version, with the dot between them. A file name without
    /// a stem, such as that of a pack, is a version as a whole.
    fn split<'p>(&self, part: &'p str) -> (&'p str, &'p str) {
        let is_version = |text: &str| text.parse::<Version>().is_ok();
        match part.rfind('.') {
            _ if self.kind != Kind::Object => (part, ""),
            None if is_version(part) => ("", part),
            Some(dot) if is_version(&part[dot + 1..]) => part.split_at(dot),
            _ => (part, ""),
        }
    }
}

/// Converts all parts but the top-level folder.
fn convert_parts(path: &Path, convert: impl Fn(&Place<'_>, &str) -> Option<String>) -> Option<Path> {
    let mut parts = path.as_ref().split('/');
    let folder = parts.next().unwrap_or_default();
    let fan_out = match folder {
        DOCUMENTS | DELETED | LABELS => 1,
        NAMES => 2,
        LATENTS => 3,
        CORRECTIONS => 6,
        _ => 0,
    };
    let mut converted = folder.to_owned();
    for (depth, part) in (1..).zip(parts) {
        let kind = match depth {
            depth if depth < fan_out => Kind::Folder,
            depth if depth == fan_out => Kind::FanOut,
            _ => Kind::Object,
        };
        converted.push('/');
        converted.push_str(&convert(&Place { folder, depth, kind }, part)?);
    }
    Path::parse(converted).ok()
}

fn number(fan_out: &str) -> Option<u8> {
    let is_number = fan_out.len() == FAN_OUT_DIGITS && is_lower_hex(fan_out);
    is_number.then(|| u8::from_str_radix(fan_out, 16).ok()).flatten()
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
}

fn encode(part: &str) -> Vec<u8> {
    let is_hash = |text: &str| text.len() == HASH_DIGITS && is_lower_hex(text);
    match part.split('.').all(is_hash) {
        true => {
            let hashes = part.split('.').filter_map(|hash| hex::decode(hash).ok());
            [vec![HASHES]].into_iter().chain(hashes).flatten().collect()
        }
        false => [TEXT].into_iter().chain(percent_decode_str(part)).collect(),
    }
}

fn decode(encoded: &[u8]) -> Option<String> {
    match encoded.split_first()? {
        (&HASHES, hashes) => {
            let (hashes, rest) = hashes.as_chunks::<{ blake3::OUT_LEN }>();
            rest.is_empty().then(|| Vec::from_iter(hashes.iter().map(hex::encode)).join("."))
        }
        (&TEXT, text) => Some(PathPart::from(std::str::from_utf8(text).ok()?).as_ref().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use c3_types::{DocumentId, DocumentName};
    use proptest::prelude::*;

    use super::*;
    use crate::encryption::secret::Secret;
    use crate::object::key::{self, FOLDERS};
    use crate::object::layout::tests::keys;

    fn names(byte: u8) -> NameKey {
        NameKey::new(&Secret::from_bytes(&[byte; 32]).unwrap(), &FOLDERS)
    }

    #[test]
    fn the_mapping_of_keys_and_folders_is_a_bijection() {
        let (ours, others) = (names(1), names(2));
        let mut sealed_paths = HashSet::new();
        for key in keys() {
            let parts = Vec::from_iter(key.path().parts());
            for depth in 1..=parts.len() {
                let plain = Path::from_iter(parts[..depth].iter().cloned());
                let sealed = seal(&ours, &plain);
                assert_eq!(open(&ours, &sealed), Some(plain.clone()), "{sealed}");
                assert!(depth < 2 || sealed_paths.insert(sealed.clone()) || depth < parts.len());
                assert!(sealed.parts().all(|part| part.as_ref().len() <= 255), "{sealed}");
                assert!(sealed.as_ref().starts_with("sealed/") && sealed.as_ref().len() < 1000, "{sealed}");
                if depth == parts.len() && !sealed.as_ref().contains("packs/") && !sealed.as_ref().contains("gc/") {
                    assert_eq!(open(&others, &sealed), None);
                }
            }
            // All versions of an object begin with the path of its prefix.
            let prefix = key.split_version().0;
            let (prefix, sealed) = (seal(&ours, prefix.path()), seal(&ours, key.path()));
            assert!(key.folder() == "packs" || key.folder() == "gc" || sealed.as_ref().starts_with(prefix.as_ref()));
        }
    }

    #[test]
    fn no_part_of_a_key_is_visible() {
        let names = names(1);
        for key in keys() {
            let sealed = seal(&names, key.path());
            for part in key.split_version().0.path().parts().skip(1) {
                let visible = sealed.parts().skip(2).any(|sealed| sealed.as_ref().contains(part.as_ref()));
                assert!(!visible || part.as_ref().len() <= 2 || key.folder() == "packs" || key.folder() == "gc");
            }
        }
    }

    #[test]
    fn foreign_paths_are_no_encrypted_objects() {
        let names = names(1);
        for key in keys() {
            let sealed = seal(&names, key.path());
            for foreign in [key.path().clone(), Path::from(format!("{sealed}.bak")), Path::from(format!("x/{sealed}"))]
            {
                assert_eq!(open(&names, &foreign), None, "{foreign}");
            }
        }
        for foreign in ["sealed/documents/zz", "sealed/names/team", "sealed/documents/ab/x", "documents", ""] {
            assert_eq!(open(&names, &Path::from(foreign)), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn any_name_fits_and_comes_back(space in "\\PC{1,18}", name in "\\PC{1,18}", generation: u64) {
            let Ok(name) = DocumentName::from_parts(space, name) else { return Ok(()) };
            let plain = key::name_prefix(&name).at(Version::from_bits(generation.max(1)));
            let sealed = seal(&names(1), plain.path());
            prop_assert!(sealed.parts().all(|part| part.as_ref().len() <= 255), "{}", sealed);
            prop_assert_eq!(open(&names(1), &sealed), Some(plain.path().clone()));
        }

        #[test]
        fn objects_of_a_subfolder_stay_together(text: u64, other: u64) {
            let names = names(1);
            let folder = |text: u64| {
                let key = key::manifest(DocumentId::of(&text.to_le_bytes()), Version::NONE);
                (key.folder().to_owned(), seal(&names, key.path()).as_ref().rsplit_once('/').unwrap().0.to_owned())
            };
            let ((plain, sealed), (other_plain, other_sealed)) = (folder(text), folder(other));
            prop_assert_eq!(plain == other_plain, sealed == other_sealed);
        }
    }
}
