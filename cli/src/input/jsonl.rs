//! JSON Lines: each line is a JSON object, and one field of it is a text.

use std::io::{self, BufRead, Read};

use serde_json::Value;

/// UTF-8 byte order mark, with which some programs begin a file.
const BOM: &[u8] = "\u{feff}".as_bytes();
/// Maximum length of a line in bytes, including the line feed.
const LINE_BYTES_MAX: usize = 16 << 20;

/// A nonblank line of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Complete(Vec<u8>),
    /// A line longer than [`LINE_BYTES_MAX`]. Its content was discarded.
    TooLong,
}

/// Iterator over the nonblank lines of a file, each with its 1-based line number. Reads at most [`LINE_BYTES_MAX`]
/// bytes at a time, so that memory is bounded even for a file without line feeds.
pub(super) struct Lines<R> {
    reader: R,
    number: u64,
    bytes_max: usize,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, number: 0, bytes_max: LINE_BYTES_MAX }
    }

    fn read(&mut self) -> io::Result<Option<Line>> {
        loop {
            self.number += 1;
            let mut line = Vec::new();
            if self.read_chunk(&mut line)? == 0 {
                return Ok(None);
            }
            let is_full = line.len() == self.bytes_max && !line.ends_with(b"\n");
            if is_full && !self.reader.fill_buf()?.is_empty() {
                return self.skip_line().map(|()| Some(Line::TooLong));
            }
            // If several files were joined, a mark may stand before the first line of each.
            if line.starts_with(BOM) {
                line.drain(..BOM.len());
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(Line::Complete(line)));
            }
        }
    }

    /// Appends the rest of the current line to `line`, but at most `bytes_max` bytes. Returns the number of bytes read.
    fn read_chunk(&mut self, line: &mut Vec<u8>) -> io::Result<usize> {
        let limit = self.bytes_max as u64;
        (&mut self.reader).take(limit).read_until(b'\n', line)
    }

    fn skip_line(&mut self) -> io::Result<()> {
        let mut chunk = Vec::new();
        loop {
            chunk.clear();
            if self.read_chunk(&mut chunk)? == 0 || chunk.ends_with(b"\n") {
                return Ok(());
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = (u64, io::Result<Line>);

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.read().transpose()?;
        Some((self.number, line))
    }
}

/// Parses `line` as a JSON object and returns the string in its field `field`, or else an error message.
pub(super) fn text(line: &[u8], field: &str) -> Result<String, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(mut object) = value else { return Err("not a JSON object".to_owned()) };
    match object.remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("the field `{field}` is not a string")),
        None => {
            let fields = Vec::from_iter(object.keys().take(8).map(String::as_str));
            Err(format!("the object has no field `{field}`; its fields are: {}", fields.join(", ")))
        }
    }
}

/// Returns the error message of [`Line::TooLong`].
pub(super) fn too_long() -> String {
    format!("the line is longer than {} MiB: store its text as a separate file", LINE_BYTES_MAX >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, bytes_max: usize) -> Vec<(u64, Line)> {
        let lines = Lines { bytes_max, ..Lines::new(text.as_bytes()) };
        lines.map(|(number, line)| (number, line.unwrap())).collect()
    }

    fn complete(line: &str) -> Line {
        Line::Complete(line.as_bytes().to_vec())
    }

    #[test]
    fn lines_are_numbered_and_bounded() {
        assert_eq!(read("a\n\n  \nb", 9), [(1, complete("a\n")), (4, complete("b"))]);
        assert_eq!(read("0123456789\nb\n", 5), [(1, Line::TooLong), (2, complete("b\n"))]);
        assert_eq!(read("0123456789", 10), [(1, complete("0123456789"))]);
        assert_eq!(read("0123456789", 9), [(1, Line::TooLong)]);
        assert_eq!(read("\u{feff}a\nb", 9), [(1, complete("a\n")), (2, complete("b"))]);
        assert_eq!(read("\u{feff}\nb", 9), [(2, complete("b"))]);
        assert_eq!(read("", 5), []);
    }

    #[test]
    fn a_bad_line_is_refused_with_the_reason() {
        assert_eq!(text(br#"{"text":"a\n\u00e9","n":1}"#, "text").as_deref(), Ok("a\n\u{e9}"));
        for (line, says) in [
            (&b"{"[..], "not JSON"),
            (b"[1]", "object"),
            (br#"{"text":7}"#, "string"),
            (br#"{"body":"x"}"#, "fields are: body"),
            (b"{\"text\":\"\xff\"}", "not JSON"),
        ] {
            let why = text(line, "text").unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }
}
