//! Identifiers that are BLAKE3 hashes.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::Invalid;

/// Bytes of a BLAKE3 hash.
const HASH_BYTES: usize = 32;

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; HASH_BYTES]);

        impl $name {
            /// Hashes the bytes.
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }

            /// Returns the hash.
            pub fn as_bytes(&self) -> &[u8; HASH_BYTES] {
                &self.0
            }

            /// Returns a copy of the hash for a message or a stored record.
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
    /// Id of a document: BLAKE3 hash of its UTF-8 bytes.
    DocumentId,
    "id"
);
hash_type!(
    /// Id of a shard: BLAKE3 hash of its bytes.
    ShardHash,
    "shard"
);
hash_type!(
    /// Hash of a window's text: BLAKE3 of its bytes.
    WindowHash,
    "hash"
);
hash_type!(
    /// Fingerprint of a stage: BLAKE3 over its config, tokenizer and weights.
    Fingerprint,
    "fingerprint"
);

/// Prefix of a document id: its first 4 to 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPrefix(String);

impl IdPrefix {
    /// Minimum digits. Fewer would match a document by accident.
    pub const DIGITS_MIN: usize = 4;

    /// Returns the digits in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the id, if the prefix has all digits.
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
            "`{}` is not a document id: 64 hexadecimal digits, or the first {} or more of them; names begin with @",
            excerpt(typed),
            Self::DIGITS_MIN
        );
        Err(Invalid::new("id", problem))
    }
}

serde_str!(IdPrefix);

/// Returns the part of an input that an error message quotes.
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
