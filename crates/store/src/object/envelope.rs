//! The seal of every object: a header with a BLAKE3 checksum, then the payload.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `C3 store` |
//! | 1 | what the object is |
//! | 1 | version of its format |
//! | 32 | BLAKE3 of the 10 bytes above, the object's name, a zero byte, and the payload |
//! | rest | the payload |
//!
//! A bit that flips anywhere, a file cut short or put under another name is found before its payload is read.

use bytes::Bytes;

use crate::object::key::{ObjectKey, ObjectKind};

const MAGIC: &[u8; 8] = b"C3 store";
/// Format of what is written. The first had no stamps in names, nothing inline, and no packs.
const VERSION: u8 = 2;
/// The oldest format that is read.
const VERSION_MIN: u8 = 1;
const CHECKSUM_AT: usize = MAGIC.len() + 2;
/// Where the payload of an object begins.
pub const PAYLOAD_AT: usize = CHECKSUM_AT + 32;

/// The object of this name with this payload.
pub fn seal(kind: ObjectKind, name: &ObjectKey, payload: &[u8]) -> Bytes {
    let mut object = Vec::with_capacity(PAYLOAD_AT + payload.len());
    object.extend_from_slice(MAGIC);
    object.extend_from_slice(&[kind.tag(), VERSION]);
    let checksum = checksum(&object, name, payload);
    object.extend_from_slice(checksum.as_bytes());
    object.extend_from_slice(payload);
    object.into()
}

/// The payload of an object, or what is wrong with it.
pub fn unseal(kind: ObjectKind, name: &ObjectKey, object: Bytes) -> Result<Bytes, String> {
    if object.len() < PAYLOAD_AT {
        return Err("it is cut short".to_owned());
    }
    let (header, payload) = (&object[..CHECKSUM_AT], object.slice(PAYLOAD_AT..));
    if checksum(header, name, &payload).as_bytes() != &object[CHECKSUM_AT..PAYLOAD_AT] {
        return Err("its checksum does not hold".to_owned());
    }
    // From here on it is as it was written, but by whom?
    match header {
        [magic @ .., tag, version] if magic == MAGIC && *tag == kind.tag() => match *version {
            VERSION_MIN..=VERSION => Ok(payload),
            other => Err(format!("it has format {other}, this program reads {VERSION_MIN} to {VERSION}")),
        },
        _ => Err("it is another kind of object".to_owned()),
    }
}

fn checksum(header: &[u8], name: &ObjectKey, payload: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header).update(name.to_string().as_bytes()).update(&[0]).update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use c3_types::DocumentId;
    use proptest::prelude::*;

    use super::*;
    use crate::object::key;
    use crate::object::version::Version;

    fn name(text: &[u8]) -> ObjectKey {
        key::manifest(DocumentId::of(text), Version::NONE)
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_unsealed(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let object = seal(ObjectKind::Latents, &name(b"a"), &payload);
            prop_assert_eq!(unseal(ObjectKind::Latents, &name(b"a"), object.clone()), Ok(payload.into()));
            prop_assert!(unseal(ObjectKind::Corrections, &name(b"a"), object.clone()).is_err());
            prop_assert!(unseal(ObjectKind::Latents, &name(b"b"), object).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        let object = seal(ObjectKind::Manifest, &name(b"a"), b"what a document is made of");
        for bit in 0..8 * object.len() {
            let mut flipped = object.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(ObjectKind::Manifest, &name(b"a"), flipped.into()).is_err(), "bit {bit}");
        }
        for length in 0..object.len() {
            assert!(unseal(ObjectKind::Manifest, &name(b"a"), object.slice(..length)).is_err(), "{length}");
        }
    }
}
