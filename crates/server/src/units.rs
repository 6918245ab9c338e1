//! Values of flags that have a unit: durations such as `30s` and sizes such as `256MiB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

/// Duration as the value of a flag: numbers with units, such as `500ms` or `1h 30m`. A number alone means seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(pub Duration);

impl TimeSpan {
    /// Longest accepted duration: a hundred years. Adding it to the current time cannot overflow.
    pub(crate) const MAX: Self = Self::from_secs(100 * 31_557_600);

    /// Returns a span of `millis` milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Returns a span of `secs` seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// Parses a span that is not zero, for flags that cannot be zero.
    pub fn positive(typed: &str) -> Result<Self, &'static str> {
        let span: Self = typed.parse()?;
        if span.0.is_zero() { Err("must not be 0") } else { Ok(span) }
    }
}

impl FromStr for TimeSpan {
    type Err = &'static str;

    fn from_str(typed: &str) -> Result<Self, Self::Err> {
        let parsed = match typed.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => humantime::parse_duration(typed).ok(),
        };
        let span = parsed.filter(|span| *span <= Self::MAX.0).map(Self);
        span.ok_or("give a duration of at most 100 years, such as 500ms, 30s or 1h; a number alone means seconds")
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// Number of bytes as the value of a flag: a number with a unit, such as `256MiB` (2^20) or `64MB` (10^6). A number
/// alone means bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// Returns a size of `mib` MiB.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(typed: &str) -> Result<Self, Self::Err> {
        let size: Result<ByteSize, _> = typed.parse();
        size.map(|size| Self(size.as_u64())).map_err(|_| "give a size such as 64MiB or 1GB; a number alone means bytes")
    }
}

impl fmt::Display for Size {
    /// Writes the size exactly, in the largest unit that divides it without remainder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_units() {
        let span = |typed: &str| typed.parse().map(|TimeSpan(span)| span.as_millis());
        for (typed, millis) in [("500ms", 500), ("30s", 30_000), ("1h 30m", 5_400_000), ("7", 7_000), ("0", 0)] {
            assert_eq!(span(typed), Ok(millis), "{typed}");
        }
        for wrong in ["", "-1", "1.5", "5 parsecs", "s", "101y", "18446744073709551615"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_take_units() {
        let size = |typed: &str| typed.parse().map(|Size(bytes)| bytes);
        for (typed, bytes) in [("256MiB", 256 << 20), ("1.5 gib", 3 << 29), ("64kB", 64_000), ("7", 7), ("0", 0)] {
            assert_eq!(size(typed), Ok(bytes), "{typed}");
        }
        for wrong in ["", "-1", "MiB", "5 pounds", "1e3"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_parse_as_displayed() {
        for (bytes, shown) in [(0, "0"), (1000, "1000"), (64 << 20, "64MiB"), (3 << 29, "1536MiB"), (5 << 30, "5GiB")] {
            assert_eq!(Size(bytes).to_string(), shown);
            assert_eq!(shown.parse(), Ok(Size(bytes)));
        }
        for (millis, shown) in [(0, "0s"), (700, "700ms"), (300_000, "5m"), (86_400_000, "1day")] {
            assert_eq!(TimeSpan::from_millis(millis).to_string(), shown);
            assert_eq!(shown.parse(), Ok(TimeSpan::from_millis(millis)));
        }
    }
}
