//! The two realms of a store: plain objects at the root, and encrypted ones below `sealed`.
//!
//! An encrypted store has the sealed realm only. While a store is being encrypted in place, it has both: objects are
//! written to the sealed realm, and move there from the plain one. An object may be in both realms for a moment; both
//! have the same content.

use bytes::Bytes;
use object_store::path::Path;

use crate::encryption::data_key::number_of;
use crate::encryption::ring::{Ring, SEALED};
use crate::object::layout::{PathKind, kind_of};
use crate::object::sealed_path;

/// A part of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Realm {
    Plain,
    Sealed,
}

impl Ring {
    /// Returns the realms that may contain objects. Objects move from the first one to the last one. So a listing that
    /// lists them in this order misses no object.
    pub(crate) fn realms(&self) -> impl DoubleEndedIterator<Item = Realm> + use<> {
        let plain = self.has_plain.then_some(Realm::Plain);
        plain.into_iter().chain(self.sealed.as_ref().map(|_| Realm::Sealed))
    }

    /// Returns the realm to which new objects are written.
    pub(crate) fn target(&self) -> Realm {
        if self.sealed.is_some() { Realm::Sealed } else { Realm::Plain }
    }

    /// Returns whether objects may be in either of two realms.
    pub(crate) fn is_mixed(&self) -> bool {
        self.has_plain && self.sealed.is_some()
    }

    /// Returns the path in a realm of the object with this key, or of the folder of the objects with such keys.
    pub(crate) fn path(&self, realm: Realm, key: &Path) -> Path {
        match (realm, &self.sealed) {
            (Realm::Sealed, Some(sealed)) => sealed_path::seal(&sealed.names, key),
            _ => key.clone(),
        }
    }

    /// Returns the meaning of a path below the root of the store. For an object and a folder, also returns the realm
    /// and the key, or the folder of keys.
    pub(crate) fn locate(&self, path: &Path) -> (PathKind, Realm, Option<Path>) {
        if path.parts().next().is_some_and(|part| part.as_ref() == SEALED) {
            if path.as_ref() == SEALED && self.sealed.is_some() {
                return (PathKind::Folder, Realm::Sealed, Some(Path::ROOT));
            }
            let key = self.sealed.as_ref().and_then(|sealed| sealed_path::open(&sealed.names, path));
            return match key.as_ref().map(kind_of) {
                Some(kind @ (PathKind::Folder | PathKind::Object)) => (kind, Realm::Sealed, key),
                _ => (PathKind::Foreign, Realm::Sealed, None),
            };
        }
        match kind_of(path) {
            PathKind::Object if !self.has_plain => (PathKind::Foreign, Realm::Plain, None),
            kind => (kind, Realm::Plain, Some(path.clone())),
        }
    }

    /// Encrypts an envelope, if the store is encrypted.
    pub(crate) fn seal(&self, envelope: Bytes) -> Bytes {
        self.sealed.as_ref().map_or_else(|| envelope.clone(), |sealed| sealed.seal(&envelope))
    }

    /// Returns these keys for a store that may have plain objects, although none are expected.
    pub(crate) fn with_plain(&self) -> Self {
        Self { sealed: self.sealed.clone(), has_plain: true }
    }

    /// Decrypts an object, or a part of a pack, to its envelope. Fails with a description of the fault.
    pub(crate) fn open(&self, object: Bytes) -> Result<Bytes, String> {
        match &self.sealed {
            None => Ok(object),
            Some(sealed) if number_of(&object).is_some() => {
                sealed.open(&object).ok_or_else(|| "it does not decrypt".to_owned())
            }
            Some(_) if self.has_plain => Ok(object),
            Some(_) => Err("it is not encrypted".to_owned()),
        }
    }
}
