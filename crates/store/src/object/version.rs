//! Versions: numbers that increase with time. A process never issues a version twice; two gateways rarely issue the
//! same version.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Number of low bits of a version that are random, so that gateways rarely issue the same version.
const RANDOM_BITS: u32 = 20;
/// Hexadecimal digits of a version in a key.
const DIGITS: usize = 16;

/// A version of a document or object: milliseconds since 1970 in the high 44 bits, a random number in the low 20. The
/// generations of a register (a name, or the labels of a document) have this type too, but count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// Version of an object whose key contains no version, as in format 1. It is lower than all other versions.
    pub const NONE: Self = Self(0);
    /// The highest version. It is never issued.
    pub(crate) const LAST: Self = Self(u64::MAX);

    /// Issues a version that is higher than `previous` and than all that this process has issued, even if the clock was
    /// set back.
    pub fn after(previous: Self) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let fresh = (now_unix_ms() << RANDOM_BITS) | fastrand::u64(..1 << RANDOM_BITS);
        let above = |last: u64| fresh.max(last.max(previous.0).saturating_add(1));
        let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(above(last)));
        Self(last.map_or(fresh, above))
    }

    /// Converts a number from a stored message to a version.
    pub(crate) fn from_bits(number: u64) -> Self {
        Self(number)
    }

    /// Converts the version to its number in a stored message.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// Returns the time of issue, in milliseconds since 1970. It may be in the future, if the clock of the issuing
    /// gateway was ahead.
    pub fn unix_ms(self) -> u64 {
        self.0 >> RANDOM_BITS
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$x}", self.0)
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(digits: &str) -> Result<Self, ()> {
        let hex = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
        match digits.len() == DIGITS && digits.bytes().all(hex) {
            true => u64::from_str_radix(digits, 16).map(Self).map_err(drop),
            false => Err(()),
        }
    }
}

/// Returns the current time, in milliseconds since 1970.
pub fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_and_are_read_as_written() {
        let far = Version(u64::MAX >> 1);
        let (first, second) = (Version::after(Version::NONE), Version::after(Version::NONE));
        let third = Version::after(far);
        assert!(Version::NONE < first && first < second && far < third);
        for version in [Version::NONE, first, third] {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        for wrong in ["", "12", "+000000000000001", "00000000000000000"] {
            assert_eq!(wrong.parse::<Version>(), Err(()), "{wrong}");
        }
    }
}
