//! Tenants: owners of documents that share nothing with each other.

use std::fmt;
use std::str::FromStr;

use crate::Invalid;

/// Name of the tenant to which all documents belong that were stored without authentication.
const DEFAULT: &str = "default";

/// Name of a tenant: 1 to 32 characters, each of them `a` to `z`, a digit or `-`. The first one is a letter.
///
/// A request never contains it: servers derive it from the caller's credentials.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(String);

impl TenantId {
    /// Maximum number of characters.
    pub const CHARS_MAX: usize = 32;

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether this is the tenant `default`, which owns the documents that were stored without authentication.
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl FromStr for TenantId {
    type Err = Invalid;

    fn from_str(typed: &str) -> Result<Self, Invalid> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let begins_well = typed.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if begins_well && typed.len() <= Self::CHARS_MAX && typed.bytes().all(fits) {
            return Ok(Self(typed.to_owned()));
        }
        let most = Self::CHARS_MAX;
        let problem = format!("must be 1 to {most} characters of a to z, digits and -, and begin with a letter");
        Err(Invalid::new("tenant", problem))
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_str!(TenantId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_cannot_be_paths() {
        for wrong in ["", "1a", "-a", "a/b", "..", "a.b", "A", "a b", "ä", "a\0", &"a".repeat(33)] {
            assert_eq!(wrong.parse::<TenantId>().unwrap_err().field, "tenant", "{wrong}");
        }
        for right in ["a", "acme", "team-7", &"a".repeat(32)] {
            assert_eq!(right.parse::<TenantId>().unwrap().as_str(), right);
        }
        assert!("default".parse::<TenantId>().unwrap().is_default() && TenantId::default().is_default());
    }
}
