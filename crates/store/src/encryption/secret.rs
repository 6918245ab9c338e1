//! Secrets of 256 bits.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of a secret in bytes.
pub(crate) const SECRET_BYTES: usize = 32;

/// A secret of 256 bits. It is erased from memory when it is dropped. `Debug` does not print it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// Draws a secret from the operating system's random number generator.
    pub(crate) fn random() -> Self {
        let mut secret = Self([0; SECRET_BYTES]);
        fill_random(&mut secret.0);
        secret
    }

    /// Copies a secret from bytes; `None` if their number is wrong.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Parses 64 hexadecimal digits, or 32 bytes in base64. Surrounding white space is ignored.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let decoded = match text.len() == 2 * SECRET_BYTES {
            true => hex::decode(text).ok(),
            false => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).ok(),
        };
        decoded.map(Zeroizing::new).and_then(|bytes| Self::from_bytes(&bytes))
    }

    /// Returns the bytes.
    pub fn expose(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// Derives another secret, for one purpose. No secret can be computed from those that are derived from it.
    pub(crate) fn derive(&self, purpose: &str) -> Self {
        Self(blake3::derive_key(purpose, &self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Fills a buffer from the operating system's random number generator.
pub(crate) fn fill_random(buffer: &mut [u8]) {
    getrandom::fill(buffer).expect("the operating system has a random number generator");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_parsed_from_hex_and_base64_and_never_printed() {
        let hex = "0f".repeat(32);
        let base64 = "Dw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8=\n";
        for text in [&hex, base64] {
            let secret = Secret::parse(text.as_bytes()).unwrap();
            assert_eq!(secret.expose(), &[15; 32]);
            assert_eq!(format!("{secret:?}"), "Secret(…)");
        }
        for wrong in ["", "0f", "not a key", &"zz".repeat(32), "Dw8PDw=="] {
            assert!(Secret::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
