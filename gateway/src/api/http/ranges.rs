//! Byte ranges (RFC 9110, section 14).

use std::ops::Range;

use axum::http::{HeaderMap, header};

/// Maximum number of ranges in a request. A request with more is answered with the whole text, as RFC 9110 permits,
/// because many small ranges cost more than the text.
const RANGES_MAX: usize = 16;

/// The ranges that a request selects.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Selection {
    /// The whole text: there is no `Range`, or one that must be ignored.
    Whole,
    /// One or several non-empty ranges, in the requested order.
    Ranges(Vec<Range<u64>>),
    /// No range overlaps the text: status 416.
    Unsatisfiable,
}

impl Selection {
    /// Reads `Range` for a text of `size` bytes. A malformed header, and one in another unit, is ignored.
    pub(super) fn from_headers(headers: &HeaderMap, size: u64) -> Self {
        let mut values = headers.get_all(header::RANGE).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Self::Whole };
        value.to_str().ok().and_then(|value| Self::parse(value, size)).unwrap_or(Self::Whole)
    }

    /// Returns `None` if the header must be ignored.
    fn parse(value: &str, size: u64) -> Option<Self> {
        let (unit, list) = value.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        // A list may contain empty elements (RFC 9110, section 5.6.1).
        let elements = list.split(',').map(str::trim).filter(|element| !element.is_empty());
        let ranges = elements.map(|element| range(element, size)).collect::<Option<Vec<_>>>()?;
        if ranges.is_empty() || ranges.len() > RANGES_MAX || size == 0 {
            return None;
        }
        let satisfiable = Vec::from_iter(ranges.into_iter().flatten());
        Some(if satisfiable.is_empty() { Self::Unsatisfiable } else { Self::Ranges(satisfiable) })
    }
}

/// Parses `A-B`, `A-` or `-N`. Returns `None` if it is malformed, and `Some(None)` if it lies outside the text.
fn range(element: &str, size: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = element.split_once('-')?;
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        // A number that is too large for u64 lies outside any text.
        is_number.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    let range = match (first, last) {
        ("", suffix) => size.saturating_sub(number(suffix)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => {
            let (first, last): (u64, u64) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    };
    Some(Some(range).filter(|range| range.start < range.end))
}

/// A response with several ranges, as `multipart/byteranges`.
#[derive(Debug)]
pub(super) struct MultipartRanges {
    boundary: String,
    size: u64,
    ranges: Vec<Range<u64>>,
}

impl MultipartRanges {
    /// `boundary` must not occur in the text.
    pub(super) fn new(boundary: String, size: u64, ranges: Vec<Range<u64>>) -> Self {
        Self { boundary, size, ranges }
    }

    pub(super) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// Returns the ranges, each with the bytes that precede it in the body.
    pub(super) fn parts(&self) -> impl Iterator<Item = (String, Range<u64>)> + use<> {
        let (boundary, size) = (self.boundary.clone(), self.size);
        self.ranges.clone().into_iter().enumerate().map(move |(number, range)| {
            let line_break = if number == 0 { "" } else { "\r\n" };
            let content_range = content_range(&range, size);
            let head = format!(
                "{line_break}--{boundary}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-range: \
                 {content_range}\r\n\r\n"
            );
            (head, range)
        })
    }

    /// Returns the bytes after the last range.
    pub(super) fn end(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }

    /// Returns the length of the body in bytes.
    pub(super) fn length(&self) -> u64 {
        let parts = self.parts().map(|(head, range)| head.len() as u64 + range.end - range.start);
        parts.sum::<u64>() + self.end().len() as u64
    }
}

/// Returns the value of `Content-Range` for a non-empty range.
pub(super) fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let select = |value: &str, size| {
            let headers = HeaderMap::from_iter([(header::RANGE, value.parse().unwrap())]);
            Selection::from_headers(&headers, size)
        };
        let ranges = |ends: &[(u64, u64)]| Selection::Ranges(ends.iter().map(|&(start, end)| start..end).collect());
        for (value, expected) in [
            ("bytes=0-0", ranges(&[(0, 1)])),
            ("bytes=0-", ranges(&[(0, 10)])),
            ("bytes=3-7", ranges(&[(3, 8)])),
            ("BYTES=3-99", ranges(&[(3, 10)])),
            ("bytes=-4", ranges(&[(6, 10)])),
            ("bytes=-99", ranges(&[(0, 10)])),
            ("bytes=9-", ranges(&[(9, 10)])),
            ("bytes=0-99999999999999999999999", ranges(&[(0, 10)])),
            ("bytes=0-1, 4-5,-1", ranges(&[(0, 2), (4, 6), (9, 10)])),
            ("bytes= 0-1 ,, 20-30", ranges(&[(0, 2)])),
            ("bytes=10-", Selection::Unsatisfiable),
            ("bytes=10-12", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selection::Unsatisfiable),
            ("bytes=7-3", Selection::Whole),
            ("bytes=0-1,7-3", Selection::Whole),
            ("bytes=a-b", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("bytes=", Selection::Whole),
            ("bytes", Selection::Whole),
            ("bytes=5", Selection::Whole),
            ("bytes=--5", Selection::Whole),
            ("lines=0-1", Selection::Whole),
        ] {
            assert_eq!(select(value, 10), expected, "{value}");
        }
        assert_eq!(select("bytes=0-", 0), Selection::Whole);
        let many = format!("bytes={}", ["0-0"; 17].join(","));
        assert_eq!(select(&many, 10), Selection::Whole);
    }

    #[test]
    fn the_length_of_several_ranges_is_known_in_advance() {
        let multipart = MultipartRanges::new("b".to_owned(), 10, vec![0..2, 5..9]);
        let mut body = String::new();
        for (head, range) in multipart.parts() {
            body += &head;
            body += &"0123456789"[range.start as usize..range.end as usize];
        }
        body += &multipart.end();
        assert_eq!(body.len() as u64, multipart.length());
        assert!(body.contains("content-range: bytes 5-8/10\r\n\r\n5678\r\n--b--\r\n"), "{body}");
    }
}
