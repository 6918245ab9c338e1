//! Envelope: a header with a BLAKE3 checksum, followed by the payload. Every object has an envelope, except a pack. In
//! a pack, each record has one, and so does the index.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `C3 store` |
//! | 1 | kind of the object ([`ObjectKey::tag`]) |
//! | 1 | format version |
//! | 32 | BLAKE3 of the 10 bytes above, the object's key, a zero byte, and the payload |
//! | rest | the payload |
//!
//! A flipped bit, a truncated object and an object under a wrong key are detected before the payload is decoded.

use bytes::Bytes;

use crate::object::key::ObjectKey;

const MAGIC: &[u8; 8] = b"C3 store";
/// Format of new objects. Format 1 had no versions in keys, no inline shards and no packs.
const FORMAT: u8 = 2;
/// Oldest readable format.
const FORMAT_MIN: u8 = 1;
const CHECKSUM_AT: usize = MAGIC.len() + 2;
/// Offset of the payload in bytes.
pub(crate) const PAYLOAD_AT: usize = CHECKSUM_AT + 32;

/// Wraps a payload in an envelope for this key.
pub(crate) fn seal(key: &ObjectKey, payload: &[u8]) -> Bytes {
    let mut object = Vec::with_capacity(PAYLOAD_AT + payload.len());
    object.extend_from_slice(MAGIC);
    object.extend_from_slice(&[key.tag(), FORMAT]);
    let checksum = checksum(&object, key, payload);
    object.extend_from_slice(checksum.as_bytes());
    object.extend_from_slice(payload);
    object.into()
}

/// Checks an envelope and returns its payload, or a description of the fault.
pub(crate) fn unseal(key: &ObjectKey, object: Bytes) -> Result<Bytes, String> {
    if object.len() < PAYLOAD_AT {
        return Err("it is cut short".to_owned());
    }
    let (header, payload) = (&object[..CHECKSUM_AT], object.slice(PAYLOAD_AT..));
    if checksum(header, key, &payload).as_bytes() != &object[CHECKSUM_AT..PAYLOAD_AT] {
        return Err("its checksum does not match".to_owned());
    }
    // The bytes are intact, but another program or another version of this program may have written them.
    match header {
        [magic @ .., tag, format] if magic == MAGIC && *tag == key.tag() => match *format {
            FORMAT_MIN..=FORMAT => Ok(payload),
            other => Err(format!("it has format {other}, but this program reads only {FORMAT_MIN} to {FORMAT}")),
        },
        _ => Err("it is another kind of object".to_owned()),
    }
}

fn checksum(header: &[u8], key: &ObjectKey, payload: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header).update(key.to_string().as_bytes()).update(&[0]).update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use c3_types::DocumentId;
    use proptest::prelude::*;

    use super::*;
    use crate::object::key;
    use crate::object::version::Version;

    fn key(text: &[u8]) -> ObjectKey {
        key::manifest(DocumentId::of(text), Version::NONE)
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_unsealed(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let object = seal(&key(b"a"), &payload);
            prop_assert_eq!(unseal(&key(b"a"), object.clone()), Ok(payload.into()));
            let of_other_kind = key::tombstone(DocumentId::of(b"a"), Version::NONE);
            prop_assert!(unseal(&of_other_kind, object.clone()).is_err());
            prop_assert!(unseal(&key(b"b"), object).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        let object = seal(&key(b"a"), b"what a document is made of");
        for bit in 0..8 * object.len() {
            let mut flipped = object.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&key(b"a"), flipped.into()).is_err(), "bit {bit}");
        }
        for length in 0..object.len() {
            assert!(unseal(&key(b"a"), object.slice(..length)).is_err(), "{length}");
        }
    }
}
