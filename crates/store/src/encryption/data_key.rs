//! A data key: encrypts bytes with AES-256-GCM-SIV (RFC 8452).
//!
//! | bytes | content of a sealed value |
//! |---|---|
//! | 8 | `C3sealed` |
//! | 4 | number of the data key, little-endian |
//! | 4 | first bytes of the BLAKE3 hash of the 12 bytes above |
//! | 12 | nonce, random |
//! | … | ciphertext, as long as the plaintext |
//! | 16 | tag, over the first 16 bytes as associated data and the plaintext |
//!
//! The check of the number tells a damaged number from that of an unknown key. Two values with the same nonce would
//! reveal only whether they are equal, so random nonces are safe for any number of values that a store can hold. The
//! other candidate, XChaCha20-Poly1305, took 2.5 times as long for 10 KB on x86-64.

use std::fmt;

use aes_gcm_siv::aead::AeadInOut;
use aes_gcm_siv::{Aes256GcmSiv, KeyInit};
use bytes::Bytes;

use crate::encryption::secret::{Secret, fill_random};

const MAGIC: &[u8; 8] = b"C3sealed";
const CHECK_AT: usize = MAGIC.len() + 4;
const NONCE_AT: usize = CHECK_AT + 4;
const TEXT_AT: usize = NONCE_AT + 12;
const TAG_BYTES: usize = 16;
/// Number of bytes by which a sealed value is longer than its plaintext.
pub(crate) const OVERHEAD: usize = TEXT_AT + TAG_BYTES;

/// A data key with its number in the tenant's ring.
pub(crate) struct DataKey {
    number: u32,
    cipher: Aes256GcmSiv,
}

impl DataKey {
    /// Prepares a secret as the key with this number.
    pub(crate) fn new(number: u32, secret: &Secret) -> Self {
        Self { number, cipher: Aes256GcmSiv::new(secret.expose().into()) }
    }

    /// Encrypts bytes.
    pub(crate) fn seal(&self, plain: &[u8]) -> Bytes {
        let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD);
        sealed.extend_from_slice(MAGIC);
        sealed.extend_from_slice(&self.number.to_le_bytes());
        let check = check(&sealed);
        sealed.extend_from_slice(&check);
        let mut nonce = [0; TEXT_AT - NONCE_AT];
        fill_random(&mut nonce);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let (header, rest) = sealed.split_at_mut(NONCE_AT);
        let text = &mut rest[nonce.len()..];
        let tag = self.cipher.encrypt_inout_detached(&nonce.into(), header, text.into());
        let tag = tag.expect("no object is as long as the limit of the cipher, 64 GiB");
        sealed.extend_from_slice(&tag);
        sealed.into()
    }

    /// Decrypts a value that this key has sealed, and checks every byte of it; `None` if one is wrong.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Bytes> {
        let (sealed, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
        let (header, rest) = sealed.split_at_checked(NONCE_AT)?;
        let (nonce, text) = rest.split_first_chunk::<{ TEXT_AT - NONCE_AT }>()?;
        let mut plain = text.to_vec();
        let opened = self.cipher.decrypt_inout_detached(nonce.into(), header, plain.as_mut_slice().into(), tag.into());
        opened.is_ok().then(|| plain.into())
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKey").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Returns the number of the data key that sealed a value. Returns `None` if the bytes are no sealed value, or if the
/// number is damaged.
pub(crate) fn number_of(sealed: &[u8]) -> Option<u32> {
    let header = sealed.first_chunk::<NONCE_AT>()?;
    let number = header[..CHECK_AT].strip_prefix(MAGIC)?;
    (check(&header[..CHECK_AT]) == header[CHECK_AT..])
        .then(|| u32::from_le_bytes(std::array::from_fn(|byte| number[byte])))
}

fn check(header: &[u8]) -> [u8; NONCE_AT - CHECK_AT] {
    let hash = blake3::hash(header);
    std::array::from_fn(|byte| hash.as_bytes()[byte])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u32) -> DataKey {
        DataKey::new(number, &Secret::from_bytes(&[7; 32]).unwrap())
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_by_its_key_only(plain in prop::collection::vec(any::<u8>(), 0..200), number: u32) {
            let sealed = key(number).seal(&plain);
            prop_assert_eq!((sealed.len(), number_of(&sealed)), (plain.len() + OVERHEAD, Some(number)));
            prop_assert_eq!(key(number).open(&sealed), Some(plain.clone().into()));
            let other = DataKey::new(number, &Secret::random());
            prop_assert_eq!(other.open(&sealed), None);
            prop_assert_ne!(key(number).seal(&plain), sealed);
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!((key(1).open(&bytes), number_of(&bytes)), (None, None));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        let sealed = key(3).seal(b"what a document is made of");
        for bit in 0..8 * sealed.len() {
            let mut flipped = sealed.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key(3).open(&flipped), None, "bit {bit}");
            assert_eq!(number_of(&flipped).is_none(), bit < 8 * NONCE_AT, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(key(3).open(&sealed[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", key(3)), "DataKey { number: 3, .. }");
    }
}
