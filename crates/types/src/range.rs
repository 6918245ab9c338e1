//! Byte ranges of documents.

use std::fmt;
use std::str::FromStr;

use crate::Invalid;

/// Bytes `start..end` of a document. Without an end, the range extends to the end of the document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteRange {
    start: u64,
    end: Option<u64>,
}

impl ByteRange {
    /// Returns the range. `start` defaults to 0, `end` to the end of the document. Errors: `end` is before `start`.
    pub fn new(start: Option<u64>, end: Option<u64>) -> Result<Self, Invalid> {
        let start = start.unwrap_or(0);
        match end {
            Some(end) if end < start => {
                Err(Invalid::new("range", format!("ends at byte {end}, before it starts at byte {start}")))
            }
            _ => Ok(Self { start, end }),
        }
    }

    /// Returns the offset of the first byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// Returns the offset after the last byte; `None` if the range extends to the end of the document.
    pub fn end(self) -> Option<u64> {
        self.end
    }

    /// Returns the range in a document of `bytes` bytes. Errors: the range starts or ends after the document's end.
    pub fn within(self, bytes: u64) -> Result<std::ops::Range<u64>, Invalid> {
        let end = self.end.unwrap_or(bytes);
        if self.start <= end && end <= bytes {
            return Ok(self.start..end);
        }
        Err(Invalid::new("range", format!("{self} exceeds the document, which has {bytes} bytes")))
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", self.start)?;
        self.end.map_or(Ok(()), |end| write!(f, "{end}"))
    }
}

serde_str!(ByteRange);

impl FromStr for ByteRange {
    type Err = Invalid;

    /// Parses `A..B`, `A..`, `..B` or `..`.
    fn from_str(typed: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("range", format!("`{typed}` is not A..B, A.., or ..B in bytes"));
        let (start, end) = typed.split_once("..").ok_or_else(wrong)?;
        let bound = |digits: &str| match digits {
            "" => Ok(None),
            digits => digits.parse().map(Some).map_err(|_| wrong()),
        };
        Self::new(bound(start)?, bound(end)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_survive_parsing_and_printing() {
        let range: ByteRange = "3..7".parse().unwrap();
        assert_eq!(range.within(10), Ok(3..7));
        assert_eq!(range.to_string().parse(), Ok(range));
        assert_eq!("..".parse::<ByteRange>().unwrap().within(10), Ok(0..10));
        assert_eq!("4..".parse::<ByteRange>().unwrap().within(10), Ok(4..10));
        assert_eq!("..4".parse::<ByteRange>().unwrap().within(4), Ok(0..4));
        for wrong in ["7..3", "a..b", "-1..3", "3", "1..2..3"] {
            assert!(wrong.parse::<ByteRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_range_that_exceeds_the_document_is_refused() {
        assert!("3..11".parse::<ByteRange>().unwrap().within(10).is_err());
        let error = "11..".parse::<ByteRange>().unwrap().within(10).unwrap_err();
        assert_eq!(error.problem, "11.. exceeds the document, which has 10 bytes");
        assert_eq!("10..".parse::<ByteRange>().unwrap().within(10), Ok(10..10));
    }
}
