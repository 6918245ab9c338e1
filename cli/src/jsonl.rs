//! JSON lines: an object a line, a text in one of its fields.

use std::io::{self, BufRead, Read};

use serde_json::Value;

/// Bytes of the longest line.
const LINE_BYTES_MAX: usize = 16 << 20;

/// A line of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Whole(Vec<u8>),
    /// It was passed over.
    TooLong,
}

/// The lines of a file that are not empty, each with its number from 1; none is held in memory beyond its bound.
pub(crate) struct Lines<R> {
    reader: R,
    number: u64,
    bytes_max: usize,
}

impl<R: BufRead> Lines<R> {
    /// The lines of what is read.
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, number: 0, bytes_max: LINE_BYTES_MAX }
    }

    fn read(&mut self) -> io::Result<Option<Line>> {
        loop {
            self.number += 1;
            let mut line = Vec::new();
            match self.part(&mut line)? {
                0 => return Ok(None),
                _ if !line.ends_with(b"\n") && line.len() == self.bytes_max => {
                    return self.pass_over().map(|()| Some(Line::TooLong));
                }
                _ if line.trim_ascii().is_empty() => {}
                _ => return Ok(Some(Line::Whole(line))),
            }
        }
    }

    /// The rest of a line, as much of it as is kept.
    fn part(&mut self, line: &mut Vec<u8>) -> io::Result<usize> {
        let most = self.bytes_max as u64;
        (&mut self.reader).take(most).read_until(b'\n', line)
    }

    fn pass_over(&mut self) -> io::Result<()> {
        let mut part = Vec::new();
        loop {
            part.clear();
            if self.part(&mut part)? == 0 || part.ends_with(b"\n") {
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

/// The text in a line's field, or what is wrong with the line.
pub(crate) fn text(line: &[u8], field: &str) -> Result<String, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(mut object) = value else { return Err("not a JSON object".to_owned()) };
    match object.remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("its field `{field}` is not a string")),
        None => {
            let there = Vec::from_iter(object.keys().take(8).map(String::as_str));
            Err(format!("it has no field `{field}`; there is: {}", there.join(", ")))
        }
    }
}

/// What is wrong with a line that was passed over.
pub(crate) fn too_long() -> String {
    format!("longer than {} MiB: put it as a file of its own", LINE_BYTES_MAX >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, bytes_max: usize) -> Vec<(u64, Line)> {
        let lines = Lines { bytes_max, ..Lines::new(text.as_bytes()) };
        lines.map(|(number, line)| (number, line.unwrap())).collect()
    }

    fn whole(line: &str) -> Line {
        Line::Whole(line.as_bytes().to_vec())
    }

    #[test]
    fn lines_are_numbered_and_bounded() {
        assert_eq!(read("a\n\n  \nb", 9), [(1, whole("a\n")), (4, whole("b"))]);
        assert_eq!(read("0123456789\nb\n", 5), [(1, Line::TooLong), (2, whole("b\n"))]);
        assert_eq!(read("0123456789", 10), [(1, Line::TooLong)]);
        assert_eq!(read("", 5), []);
    }

    #[test]
    fn what_is_wrong_with_a_line_is_told() {
        assert_eq!(text(br#"{"text":"a\n\u00e9","n":1}"#, "text").as_deref(), Ok("a\n\u{e9}"));
        for (line, says) in [
            (&b"{"[..], "not JSON"),
            (b"[1]", "object"),
            (br#"{"text":7}"#, "string"),
            (br#"{"body":"x"}"#, "there is: body"),
            (b"{\"text\":\"\xff\"}", "not JSON"),
        ] {
            let why = text(line, "text").unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }
}
