//! Key with which a tenant's terms are hashed, and the ids of terms.

use std::fmt;

use zeroize::ZeroizeOnDrop;

/// Key of 256 bits with which the terms of one tenant are hashed. Sketches of tenants with different keys have nothing
/// in common, and without the key a term cannot be looked up in a sketch.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct TermKey([u8; 32]);

impl TermKey {
    /// Derives the key from a secret of the tenant that serves other purposes too.
    pub fn derive(secret: &[u8; 32]) -> Self {
        Self(blake3::derive_key("C3 Serve 2026-12 key of search terms", secret))
    }

    /// Returns the id of a term in its normal form.
    pub(crate) fn id(&self, term: &str) -> TermId {
        match COMMON.binary_search(&term) {
            Ok(index) => TermId::Common(index as u8),
            Err(_) => {
                let hash = blake3::keyed_hash(&self.0, term.as_bytes());
                let [a, b, c, d, ..] = *hash.as_bytes();
                TermId::Hashed(u32::from_be_bytes([a, b, c, d]))
            }
        }
    }
}

impl fmt::Debug for TermKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TermKey(…)")
    }
}

/// Identity of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TermId {
    /// Index in [`COMMON`].
    Common(u8),
    /// First 32 bits of the keyed hash. A sketch keeps the first of these.
    Hashed(u32),
}

impl TermId {
    /// Returns the key of the term's postings of sketches with a resolution of `bits`. Keys of different resolutions and
    /// of common terms differ: the key of a hash is its first `bits` bits behind a one.
    pub(crate) fn key(self, bits: u8) -> u32 {
        match self {
            Self::Common(index) => index.into(),
            Self::Hashed(hash) => 1 << bits | hash >> (32 - bits),
        }
    }
}

/// The commonest words of English, as the analyser returns them, sorted. About fifty of them are in each window, so a
/// sketch has one bit for each instead of a hash: this saves 45 bytes a window.
pub(crate) const COMMON: [&str; 64] = [
    "a", "all", "an", "and", "ani", "are", "as", "at", "be", "been", "but", "by", "can", "could", "do", "for", "from",
    "had", "has", "have", "he", "her", "him", "his", "i", "if", "in", "into", "is", "it", "may", "me", "more", "my",
    "no", "not", "of", "on", "one", "or", "other", "out", "she", "so", "some", "than", "that", "the", "their", "them",
    "then", "there", "they", "this", "to", "up", "was", "we", "were", "which", "who", "will", "with", "you",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyzer::analyze;

    #[test]
    fn common_words_are_sorted_stems() {
        assert!(COMMON.is_sorted());
        for word in COMMON.iter().filter(|word| **word != "ani") {
            analyze(word, |term| assert_eq!(term.text, *word));
        }
    }

    #[test]
    fn ids_depend_on_the_key() {
        let (a, b) = (TermKey::derive(&[1; 32]), TermKey::derive(&[2; 32]));
        assert_eq!(a.id("ship"), a.id("ship"));
        assert_ne!(a.id("ship"), b.id("ship"));
        assert_eq!(a.id("the"), b.id("the"));
    }

    #[test]
    fn keys_of_resolutions_differ() {
        let id = TermId::Hashed(0x1234_5678);
        assert_eq!(id.key(8), 0x112);
        assert_eq!(id.key(16), 0x1_1234);
        assert_eq!(TermId::Common(63).key(20), 63);
    }
}
