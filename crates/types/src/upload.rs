//! Names of resumable uploads.

use std::fmt;
use std::str::FromStr;

use crate::Invalid;

/// Name of a resumable upload: 4 to 64 characters, each of them `a` to `z`, a digit, `-` or `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UploadName(String);

impl UploadName {
    /// Minimum number of characters. Shorter names of different callers would too easily be equal.
    pub const CHARS_MIN: usize = 4;
    /// Maximum number of characters.
    pub const CHARS_MAX: usize = 64;

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UploadName {
    type Err = Invalid;

    fn from_str(typed: &str) -> Result<Self, Invalid> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        if (Self::CHARS_MIN..=Self::CHARS_MAX).contains(&typed.len()) && typed.bytes().all(fits) {
            return Ok(Self(typed.to_owned()));
        }
        let (least, most) = (Self::CHARS_MIN, Self::CHARS_MAX);
        Err(Invalid::new("upload", format!("must be {least} to {most} characters of a to z, digits, - and _")))
    }
}

impl fmt::Display for UploadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_str!(UploadName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_be_paths() {
        for wrong in ["abc", "a/../b", "name.1", "UPPER", "späte", &"a".repeat(65)] {
            assert_eq!(wrong.parse::<UploadName>().unwrap_err().field, "upload", "{wrong}");
        }
        assert_eq!("night-run_1".parse::<UploadName>().unwrap().as_str(), "night-run_1");
    }
}
