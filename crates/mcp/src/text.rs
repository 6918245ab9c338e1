//! Parts of a document's text, cut at characters and lines, and within a budget of tokens.

use std::ops::Range;

use c3_client::{ByteRange, Document};
use futures::TryStreamExt;

use crate::call::Call;
use crate::error::Error;

/// Maximum bytes of a character in UTF-8, less one.
const CONTINUATION_BYTES_MAX: u64 = 3;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Offset in the document, in bytes.
    pub(crate) start: u64,
    pub(crate) text: String,
    /// True if the part ends earlier than requested, because of its budget.
    pub(crate) is_cut: bool,
}

impl Part {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.text.len() as u64
    }

    /// Cuts the part after `bytes_max` bytes at most, if possible at the end of a line.
    pub(crate) fn cut(&mut self, bytes_max: u64) {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        if self.text.len() > bytes_max {
            self.text.truncate(self.text.floor_char_boundary(bytes_max));
            self.cut_at_line();
        }
    }

    /// Marks the part as cut, and cuts it at the end of its last line. A long line is divided instead, since the part
    /// would otherwise be much shorter than its budget.
    pub(crate) fn cut_at_line(&mut self) {
        let line = self.text.rfind('\n').map(|at| at + 1).filter(|at| *at >= self.text.len() / 2);
        self.text.truncate(line.unwrap_or(self.text.len()));
        self.is_cut = true;
    }
}

/// Returns how many bytes of a document have `tokens` tokens on average, at least 1.
pub(crate) fn bytes_of_tokens(document: &Document, tokens: u32) -> u64 {
    let bytes = u128::from(tokens) * u128::from(document.bytes) / u128::from(document.tokens.max(1));
    u64::try_from(bytes).unwrap_or(u64::MAX).max(1)
}

/// Reads a range of a document's text. If an end of the range is within a character, the range ends before it instead;
/// so ranges that follow each other give the whole text.
pub(crate) async fn read(call: &Call<'_>, document: &Document, range: Range<u64>) -> Result<Part, Error> {
    let fetched = range.start.saturating_sub(CONTINUATION_BYTES_MAX);
    let bytes = fetch(call, document, fetched..range.end).await?;
    let start = floor(&bytes, (range.start - fetched) as usize);
    // The end of a text is the end of a character; the end of another range may not be.
    let end = if range.end == document.bytes { bytes.len() } else { complete(&bytes) };
    let text = bytes.get(start..end).unwrap_or_default();
    Ok(Part { start: fetched + start as u64, text: utf8(text.to_vec())?, is_cut: false })
}

/// Returns the text with these bytes. Fails if they are not UTF-8.
pub(crate) fn utf8(bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| Error::argument("this part of the text is not UTF-8"))
}

async fn fetch(call: &Call<'_>, document: &Document, range: Range<u64>) -> Result<Vec<u8>, Error> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let total = range.end - range.start;
    let range = ByteRange::new(Some(range.start), Some(range.end))?;
    call.with_progress(Some(total), async |progress| {
        let pieces = call.client.get(&document.id.to_string(), range).await?;
        let collect = async |mut text: Vec<u8>, piece: bytes::Bytes| {
            text.extend_from_slice(&piece);
            progress.send_replace(text.len() as u64);
            Ok(text)
        };
        Ok(pieces.try_fold(Vec::new(), collect).await?)
    })
    .await
}

/// Returns the start of the character that contains the byte at `index`.
fn floor(bytes: &[u8], index: usize) -> usize {
    let is_continuation = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xC0 == 0x80);
    (0..=index.min(bytes.len())).rev().find(|at| !is_continuation(at)).unwrap_or(0)
}

/// Returns the length of `bytes` without an incomplete character at the end.
pub(crate) fn complete(bytes: &[u8]) -> usize {
    let last = floor(bytes, bytes.len().saturating_sub(1));
    match std::str::from_utf8(&bytes[last..]) {
        Ok(_) => bytes.len(),
        Err(_) => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_divided() {
        let bytes = "aä中😀b".as_bytes();
        let starts = [0, 1, 3, 6, 10, 11];
        for index in 0..=bytes.len() {
            let expected = starts.into_iter().rev().find(|start| *start <= index).unwrap();
            assert_eq!(floor(bytes, index), expected, "{index}");
            assert_eq!(complete(&bytes[..index]), expected, "{index}");
        }
    }

    #[test]
    fn parts_are_cut_at_lines_if_these_are_short() {
        let cut = |text: &str, bytes| {
            let mut part = Part { start: 5, text: text.to_owned(), is_cut: false };
            part.cut(bytes);
            (part.text.clone(), part.end(), part.is_cut)
        };
        assert_eq!(cut("one\ntwo\nthree", 100), ("one\ntwo\nthree".to_owned(), 18, false));
        assert_eq!(cut("one\ntwo\nthree", 10), ("one\ntwo\n".to_owned(), 13, true));
        assert_eq!(cut("a\nlong line without end", 10), ("a\nlong lin".to_owned(), 15, true));
        assert_eq!(cut("中中中", 4), ("中".to_owned(), 8, true));
    }
}
