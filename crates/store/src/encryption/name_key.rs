//! The name key: encrypts parts of the paths of objects, so that whoever lists the store learns no hash, name or label.
//!
//! The encryption is deterministic, because a path is the only way to find an object, and reversible, because listings
//! return paths. AES-SIV (RFC 5297) is made for this. Fan-out subfolders are permuted instead, so that each still holds
//! exactly the objects of one subfolder of the plain layout.

use std::collections::BTreeMap;
use std::fmt;

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use zeroize::Zeroizing;

use crate::encryption::secret::Secret;

/// Purposes of the keys that are derived from the name key.
const PARTS: &str = "c3 store, parts of paths, version 1";
const FAN_OUT: &str = "c3 store, fan-out subfolders, version 1";
const REDIS: &str = "c3 store, keys in redis, version 1";

/// Key that encrypts names.
pub(crate) struct NameKey {
    parts: Zeroizing<[u8; 64]>,
    redis: Secret,
    /// Permutations of the fan-out subfolders, by top-level folder.
    permutations: BTreeMap<&'static str, Permutation>,
}

impl NameKey {
    /// Derives the keys from a secret. `folders` are the top-level folders of the store.
    pub(crate) fn new(secret: &Secret, folders: &[&'static str]) -> Self {
        let mut parts = Zeroizing::new([0; 64]);
        blake3::Hasher::new_derive_key(PARTS).update(secret.expose()).finalize_xof().fill(&mut *parts);
        let fan_out = secret.derive(FAN_OUT);
        let permutations = folders.iter().map(|&folder| (folder, Permutation::new(&fan_out, folder))).collect();
        Self { parts, redis: secret.derive(REDIS), permutations }
    }

    /// Encrypts a part of a path as hexadecimal digits. `place` is the place of the part in the path: equal parts at
    /// different places get different names.
    pub(crate) fn seal_part(&self, place: &str, part: &[u8]) -> String {
        let sealed = self.siv().encrypt([place.as_bytes()], part);
        hex::encode(sealed.expect("a part is short, and there is one header"))
    }

    /// Decrypts a part of a path; `None` if this key did not encrypt it for this place.
    pub(crate) fn open_part(&self, place: &str, sealed: &str) -> Option<Vec<u8>> {
        // Each part has one name only, so digits in upper case are no name.
        if sealed.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return None;
        }
        self.siv().decrypt([place.as_bytes()], &hex::decode(sealed).ok()?).ok()
    }

    /// Returns the permutation of the fan-out subfolders of a top-level folder; `None` if the folder is unknown.
    pub(crate) fn permutation(&self, folder: &str) -> Option<&Permutation> {
        self.permutations.get(folder)
    }

    /// Returns a keyed hash, as the key of a value in Redis.
    pub(crate) fn redis_key(&self, plain: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(self.redis.expose(), plain)
    }

    fn siv(&self) -> Aes256Siv {
        Aes256Siv::new((&*self.parts).into())
    }
}

impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameKey").finish_non_exhaustive()
    }
}

/// A permutation of the 256 fan-out subfolders.
pub(crate) struct Permutation {
    forward: [u8; 256],
    backward: [u8; 256],
}

impl Permutation {
    fn new(key: &Secret, folder: &str) -> Self {
        let mut random = blake3::Hasher::new_keyed(key.expose()).update(folder.as_bytes()).finalize_xof();
        let mut forward: [u8; 256] = std::array::from_fn(|number| number as u8);
        // Fisher-Yates shuffle. The bias of a 64-bit number modulo at most 256 is negligible.
        for last in (1..forward.len()).rev() {
            let mut bytes = [0; 8];
            random.fill(&mut bytes);
            forward.swap(last, (u64::from_le_bytes(bytes) % (last as u64 + 1)) as usize);
        }
        let mut backward = [0; 256];
        for (plain, &sealed) in (0..=u8::MAX).zip(&forward) {
            backward[usize::from(sealed)] = plain;
        }
        Self { forward, backward }
    }

    /// Returns the number of the sealed subfolder.
    pub(crate) fn seal(&self, plain: u8) -> u8 {
        self.forward[usize::from(plain)]
    }

    /// Returns the number of the plain subfolder.
    pub(crate) fn open(&self, sealed: u8) -> u8 {
        self.backward[usize::from(sealed)]
    }
}

impl fmt::Debug for Permutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permutation(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> NameKey {
        NameKey::new(&Secret::from_bytes(&[byte; 32]).unwrap(), &["documents", "deleted"])
    }

    proptest! {
        #[test]
        fn a_part_has_one_name_at_each_place(part in prop::collection::vec(any::<u8>(), 0..100)) {
            let sealed = key(1).seal_part("documents/2", &part);
            prop_assert_eq!(&sealed, &key(1).seal_part("documents/2", &part));
            prop_assert_eq!(key(1).open_part("documents/2", &sealed), Some(part.clone()));
            prop_assert_ne!(&sealed, &key(1).seal_part("deleted/2", &part));
            for other in [key(1).open_part("deleted/2", &sealed), key(2).open_part("documents/2", &sealed)] {
                prop_assert_eq!(other, None);
            }
        }
    }

    #[test]
    fn permutations_are_bijections_and_differ() {
        let (one, two) = (key(1), key(2));
        let tables = [one.permutation("documents"), one.permutation("deleted"), two.permutation("documents")];
        let tables = tables.map(Option::unwrap);
        for table in tables {
            assert!((0..=u8::MAX).all(|number| table.open(table.seal(number)) == number));
            // A random permutation has one fixed point on average.
            assert!((0..=u8::MAX).filter(|&number| table.seal(number) == number).count() < 8);
        }
        assert_ne!(tables[0].forward, tables[1].forward);
        assert_ne!(tables[0].forward, tables[2].forward);
    }

    #[test]
    fn a_name_of_other_case_is_no_name() {
        let sealed = key(1).seal_part("names/3", b"book");
        assert_eq!(key(1).open_part("names/3", &sealed.to_uppercase()), None);
    }
}
