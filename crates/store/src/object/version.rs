//! Stamps: numbers that rise with time and are never given twice, so that what bears one is never replaced.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bits under the milliseconds: counted on within one, and begun at random, so that gateways do not meet.
const BITS_OF_CHANCE: u32 = 20;
/// Digits of a stamp in a name.
const DIGITS: usize = 16;

/// A number that rises with time: milliseconds since 1970 above 20 bits of chance. 16 hexadecimal digits in names. The
/// objects of format 1 bear none, which counts as [`Version::NONE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// What an object without a stamp has.
    pub const NONE: Self = Self(0);

    /// A new stamp, above all that this gateway gave and above `before`, even where the clock was set back.
    pub fn after(before: Self) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let fresh = (now_unix_ms() << BITS_OF_CHANCE) | fastrand::u64(..1 << BITS_OF_CHANCE);
        let above = |last: u64| fresh.max(last.max(before.0).saturating_add(1));
        let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(above(last)));
        Self(last.map_or(fresh, above))
    }

    /// The number in a message.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// When it was given: milliseconds since 1970, of a clock that was not set back.
    pub fn unix_ms(self) -> u64 {
        self.0 >> BITS_OF_CHANCE
    }

    /// The stamp of a message.
    pub fn from_bits(number: u64) -> Self {
        Self(number)
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

/// Milliseconds since 1970.
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
        for stamp in [Version::NONE, first, third] {
            assert_eq!(stamp.to_string().parse(), Ok(stamp));
        }
        for wrong in ["", "12", "+000000000000001", "00000000000000000"] {
            assert_eq!(wrong.parse::<Version>(), Err(()), "{wrong}");
        }
    }
}
