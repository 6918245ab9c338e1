//! API keys: `c3_<id>_<secret>`. The id names the key in logs and lists. The secret has 256 random bits, so a plain
//! hash of it is enough at rest: it cannot be guessed.

use std::fmt;

use c3_types::Invalid;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Prefix of every key. It distinguishes keys from tokens, and lets scanners find leaked keys.
const PREFIX: &str = "c3_";
/// Random bytes of an id. Ids of one file must differ; they need not be secret.
const ID_BYTES: usize = 5;
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// Id of a key: lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyId(String);

impl KeyId {
    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyId {
    type Error = Invalid;

    fn try_from(typed: String) -> Result<Self, Invalid> {
        if typed.len() == 2 * ID_BYTES && is_hex(&typed) {
            return Ok(Self(typed));
        }
        Err(Invalid::new("id", format!("must be {} hexadecimal digits", 2 * ID_BYTES)))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// BLAKE3 hash of a secret. Comparison takes constant time.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SecretHash(blake3::Hash);

impl SecretHash {
    fn of(secret: &str) -> Self {
        Self(blake3::hash(secret.as_bytes()))
    }

    /// Returns the hash of no secret.
    pub(crate) fn of_none() -> Self {
        Self(blake3::Hash::from_bytes([0; blake3::OUT_LEN]))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

impl From<SecretHash> for String {
    fn from(SecretHash(hash): SecretHash) -> Self {
        hash.to_hex().to_string()
    }
}

impl TryFrom<String> for SecretHash {
    type Error = Invalid;

    fn try_from(hex: String) -> Result<Self, Invalid> {
        let hash = blake3::Hash::from_hex(hex).map_err(|_| Invalid::new("hash", "must be 64 hexadecimal digits"))?;
        Ok(Self(hash))
    }
}

/// A new API key. Its text exists only here and with the caller; it is overwritten when dropped.
pub struct ApiKey {
    id: KeyId,
    text: Zeroizing<String>,
}

impl ApiKey {
    /// Creates a random key. Fails if the system has no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; ID_BYTES + SECRET_BYTES]);
        getrandom::fill(&mut bytes[..])?;
        let hex = |bytes: &[u8]| Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let (id, secret) = bytes.split_at(ID_BYTES);
        let (id, secret) = (hex(id), hex(secret));
        let text = Zeroizing::new(format!("{PREFIX}{}_{}", *id, *secret));
        Ok(Self { id: KeyId(id.to_string()), text })
    }

    /// Returns the id.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Returns the whole key, which callers send.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Returns the hash of the secret, for the access file.
    pub fn hash(&self) -> SecretHash {
        split(&self.text).map_or_else(SecretHash::of_none, |(_, secret)| SecretHash::of(secret))
    }
}

/// Returns whether credentials are an API key rather than a token.
pub(crate) fn is_key(credentials: &str) -> bool {
    credentials.starts_with(PREFIX)
}

/// Returns the id in a key, and the hash of its secret. Hashes something in any case, so that the time does not depend
/// on the form of the key.
pub(crate) fn parse(key: &str) -> (Option<&str>, SecretHash) {
    match split(key) {
        Some((id, secret)) => (Some(id), SecretHash::of(secret)),
        None => (None, SecretHash::of(key)),
    }
}

fn split(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(PREFIX)?.split_once('_')
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_an_id_and_a_secret_of_256_bits() {
        let (one, other) = (ApiKey::random().unwrap(), ApiKey::random().unwrap());
        let (id, hash) = parse(one.expose());
        assert_eq!(id, Some(one.id().as_str()));
        assert!(hash == one.hash() && hash != other.hash() && one.id() != other.id());
        assert_eq!(one.expose().len(), 3 + 10 + 1 + 64);
        assert!(is_key(one.expose()) && !is_key("eyJ"));
    }

    #[test]
    fn malformed_keys_are_no_keys() {
        for wrong in ["c3_", "c3_abc", "", "c3"] {
            assert_eq!(parse(wrong).0, None, "{wrong}");
        }
        assert!(KeyId::try_from("0123456789".to_owned()).is_ok());
        for wrong in ["", "012345678", "ABCDEFABCD", "../../etc/"] {
            assert!(KeyId::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        assert!(!format!("{:?}", ApiKey::random().unwrap().hash()).contains('0'));
    }
}
