//! Identifiers that are BLAKE3 hashes, and prefixes of document ids.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::Invalid;

/// Size of a BLAKE3 hash in bytes.
const HASH_BYTES: usize = 32;

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; HASH_BYTES]);

        impl $name {
            /// Returns the hash of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }

            /// Returns the bytes of the hash.
            pub fn as_bytes(&self) -> &[u8; HASH_BYTES] {
                &self.0
            }

            /// Returns a copy of the bytes, for messages and stored records.
            pub fn to_bytes(self) -> Bytes {
                Bytes::copy_from_slice(&self.0)
            }
        }

        impl From<blake3::Hash> for $name {
            fn from(hash: blake3::Hash) -> Self {
                Self(*hash.as_bytes())
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = Invalid;

            fn try_from(bytes: &[u8]) -> Result<Self, Invalid> {
                <[u8; HASH_BYTES]>::try_from(bytes).map(Self).map_err(|_| {
                    let given = bytes.len();
                    Invalid::new($field, format!("{given} bytes given, a BLAKE3 hash has {HASH_BYTES}"))
                })
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(hex: &str) -> Result<Self, Invalid> {
                blake3::Hash::from_hex(hex).map(Self::from).map_err(|_| {
                    Invalid::new($field, format!("`{}` is not a hash of 64 hexadecimal digits", excerpt(hex)))
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                blake3::Hash::from_bytes(self.0).to_hex().fmt(f)
            }
        }

        serde_str!($name);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

hash_type!(
    /// Id of a document: BLAKE3 hash of the text's UTF-8 bytes.
    DocumentId,
    "id"
);
hash_type!(
    /// Id of a shard, which is a part of a document: BLAKE3 hash of the shard's bytes.
    ShardHash,
    "shard"
);
hash_type!(
    /// BLAKE3 hash of the bytes of a window, which is a part of a shard.
    WindowHash,
    "hash"
);
hash_type!(
    /// Fingerprint of a stage (the compressor or the decoder of a cascade): BLAKE3 hash over the stage's config,
    /// tokenizer and weights.
    Fingerprint,
    "fingerprint"
);

/// The first 4 to 64 hexadecimal digits of a document id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPrefix(String);

impl IdPrefix {
    /// Minimum number of digits. A shorter prefix would too easily match the wrong document.
    pub const DIGITS_MIN: usize = 4;

    /// Returns the digits in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the id if the prefix has all 64 digits.
    pub fn full_id(&self) -> Option<DocumentId> {
        self.0.parse().ok()
    }
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<DocumentId> for IdPrefix {
    fn from(id: DocumentId) -> Self {
        Self(id.to_string())
    }
}

impl FromStr for IdPrefix {
    type Err = Invalid;

    fn from_str(typed: &str) -> Result<Self, Invalid> {
        let digits = (Self::DIGITS_MIN..=2 * HASH_BYTES).contains(&typed.len());
        if digits && typed.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Ok(Self(typed.to_ascii_lowercase()));
        }
        let problem = format!(
            "`{}` is not a document id: give all 64 hexadecimal digits, a prefix of at least {} digits, or @NAME",
            excerpt(typed),
            Self::DIGITS_MIN
        );
        Err(Invalid::new("id", problem))
    }
}

serde_str!(IdPrefix);

/// Returns the beginning of an input, so that an error message does not quote an arbitrarily long one.
fn excerpt(typed: &str) -> String {
    const EXCERPT_CHARS_MAX: usize = 80;
    typed.chars().take(EXCERPT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_survives_hex_and_bytes() {
        let id = DocumentId::of(b"text");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(DocumentId::try_from(id.to_bytes().as_ref()), Ok(id));
    }

    #[test]
    fn the_error_of_a_hash_of_another_length_names_the_field() {
        let error = Fingerprint::try_from([0; 31].as_slice()).unwrap_err();
        assert_eq!(error.field, "fingerprint");
    }

    #[test]
    fn prefixes_are_hexadecimal_and_not_too_short() {
        for wrong in ["", "abc", "xyzw", "12345g", &"a".repeat(65), "../../etc"] {
            assert!(wrong.parse::<IdPrefix>().is_err(), "{wrong}");
        }
        let prefix: IdPrefix = "ABcd".parse().unwrap();
        assert_eq!(prefix.as_str(), "abcd");
        assert_eq!(prefix.full_id(), None);
    }
}
