//! Ranges of bytes and of lines of documents.

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

/// Lines of a document. The first line has number 1. A line ends after its line feed, or at the end of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineRange {
    first: u64,
    last: Option<u64>,
}

impl LineRange {
    /// Returns the range; without `last`, it extends to the end of the document. Errors: `first` is 0 or after `last`.
    pub fn new(first: u64, last: Option<u64>) -> Result<Self, Invalid> {
        match first >= 1 && last.is_none_or(|last| first <= last) {
            true => Ok(Self { first, last }),
            false => Err(Invalid::new("lines", "are counted from 1, and the last must not be before the first")),
        }
    }

    /// Returns the number of the first line.
    pub fn first(self) -> u64 {
        self.first
    }

    /// Returns the number of the last line; `None` if the range extends to the end of the document.
    pub fn last(self) -> Option<u64> {
        self.last
    }
}

impl fmt::Display for LineRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.first)?;
        self.last.map_or(Ok(()), |last| write!(f, "{last}"))
    }
}

impl FromStr for LineRange {
    type Err = Invalid;

    /// Parses `A-B`, `A-` or `A`. Both ends are inclusive.
    fn from_str(typed: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("lines", "must be A-B, A- or A, with A from 1 and B not before A");
        let number = |digits: &str| match digits.bytes().all(|digit| digit.is_ascii_digit()) {
            true => digits.parse::<u64>().map_err(|_| wrong()),
            false => Err(wrong()),
        };
        let (first, last) = match typed.split_once('-') {
            None => (number(typed)?, Some(number(typed)?)),
            Some((first, "")) => (number(first)?, None),
            Some((first, last)) => (number(first)?, Some(number(last)?)),
        };
        Self::new(first, last).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ranges_begin_at_line_1() {
        let range = |typed: &str| typed.parse::<LineRange>().map(|range| (range.first(), range.last()));
        assert_eq!(range("3-7"), Ok((3, Some(7))));
        assert_eq!(range("3-3"), range("3"));
        assert_eq!(range("2-"), Ok((2, None)));
        for wrong in ["", "-", "-3", "0-3", "0", "7-3", "+1-2", "a", "1-b", "1-2-3", "99999999999999999999"] {
            assert_eq!(range(wrong).unwrap_err().field, "lines", "{wrong}");
        }
    }

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
