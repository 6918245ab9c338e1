//! Streams some lines of a document.
//!
//! The manifest has the number of line feeds in each window, so only the windows that contain the lines are decoded.
//! Manifests of earlier versions lack these numbers. Such a document is decoded from its start to the last line.

use std::ops::Range;

use async_stream::try_stream;
use c3_store::manifest::Manifest;
use c3_types::LineRange;
use futures::{Stream, TryStreamExt, pin_mut};

use super::document::{OpenDocument, TextPiece, positions};
use crate::error::Error;

/// Part of a document that contains all requested lines.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Extent {
    pub(crate) bytes: Range<u64>,
    /// Number of line feeds before the part.
    pub(crate) newlines_before: u64,
}

/// Streams lines of a document. Fails with [`Error::OutOfRange`] if the document has fewer lines than the number of the
/// first one.
pub(crate) fn get_lines(
    open: &OpenDocument,
    lines: LineRange,
) -> impl Stream<Item = Result<TextPiece, Error>> + Send + use<> {
    let Extent { bytes, newlines_before } = extent(open.manifest(), lines);
    let pieces = open.text(bytes);
    try_stream! {
        let mut cutter = LineCutter::new(lines, newlines_before);
        pin_mut!(pieces);
        while let Some(piece) = pieces.try_next().await? {
            let part = cutter.cut(&piece.text);
            if !part.is_empty() {
                let start = piece.start + part.start as u64;
                yield TextPiece { text: piece.text.slice(part), start, ..piece };
            }
            if cutter.is_done() {
                break;
            }
        }
        cutter.check(lines)?;
    }
}

/// Returns the part of the document that has to be decoded.
pub(crate) fn extent(manifest: &Manifest, lines: LineRange) -> Extent {
    let whole = Extent { bytes: 0..manifest.bytes(), newlines_before: 0 };
    if manifest.shards.iter().any(|shard| shard.window_newlines.len() != shard.window_bytes.len()) {
        return whole;
    }
    let mut extent = whole;
    let mut newlines = 0;
    for position in positions(manifest) {
        let after = newlines + u64::from(manifest.shards[position.shard].window_newlines[position.in_shard]);
        // The first line begins after line feed `first - 1`, so windows before the one with this line feed are skipped.
        if after < lines.first() - 1 {
            extent = Extent { bytes: position.bytes.end..extent.bytes.end, newlines_before: after };
        }
        if lines.last().is_some_and(|last| after >= last) {
            extent.bytes.end = position.bytes.end;
            break;
        }
        newlines = after;
    }
    // A document with fewer lines is still decoded at its end, since only its last byte tells how many lines it has.
    if extent.bytes.is_empty()
        && let Some(last) = positions(manifest).last()
    {
        let in_last = manifest.shards[last.shard].window_newlines[last.in_shard];
        extent = Extent { bytes: last.bytes, newlines_before: newlines - u64::from(in_last) };
    }
    extent
}

/// Cuts a text, which arrives in pieces, to some of its lines.
struct LineCutter {
    /// Line feeds that are still before the first line.
    skip: u64,
    /// Line feeds of the lines that are still to come; `None` for all lines to the end.
    take: Option<u64>,
    newlines: u64,
    ends_with_newline: bool,
    has_text: bool,
}

impl LineCutter {
    fn new(lines: LineRange, newlines_before: u64) -> Self {
        Self {
            skip: lines.first() - 1 - newlines_before,
            take: lines.last().map(|last| last - (lines.first() - 1)),
            newlines: newlines_before,
            ends_with_newline: true,
            has_text: false,
        }
    }

    /// Returns the part of the next piece that belongs to the lines.
    fn cut(&mut self, piece: &[u8]) -> Range<usize> {
        let (mut start, mut end) = (if self.skip > 0 { piece.len() } else { 0 }, piece.len());
        for (at, _) in piece.iter().enumerate().filter(|&(_, &byte)| byte == b'\n') {
            self.newlines += 1;
            if self.skip > 0 {
                self.skip -= 1;
                if self.skip == 0 {
                    start = at + 1;
                }
            } else if let Some(take) = &mut self.take {
                *take -= 1;
                if *take == 0 {
                    end = at + 1;
                    break;
                }
            }
        }
        self.ends_with_newline = piece.last() == Some(&b'\n');
        self.has_text |= start < end;
        start..end
    }

    fn is_done(&self) -> bool {
        self.take == Some(0)
    }

    /// Fails if the whole text ended before the first line.
    fn check(&self, lines: LineRange) -> Result<(), Error> {
        if self.has_text {
            return Ok(());
        }
        let size = self.newlines + u64::from(!self.ends_with_newline);
        Err(Error::OutOfRange { range: lines.to_string(), size, unit: "lines" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_data::manifest;

    /// Returns the manifest of a text whose windows have these sizes, in shards of up to three windows.
    fn manifest_of(text: &[u8], sizes: &[u32]) -> Manifest {
        let shards = Vec::from_iter(sizes.chunks(3).map(<[u32]>::to_vec));
        let mut manifest = manifest(&shards, true);
        let mut start = 0;
        for shard in &mut manifest.shards {
            let bytes = shard.bytes() as usize;
            *shard = shard.clone().with_newlines(&text[start..start + bytes]);
            start += bytes;
        }
        manifest
    }

    /// Cuts the text as `get_lines` does, window by window.
    fn cut(text: &[u8], manifest: &Manifest, lines: LineRange) -> Result<Vec<u8>, Error> {
        let Extent { bytes, newlines_before } = extent(manifest, lines);
        let mut cutter = LineCutter::new(lines, newlines_before);
        let mut got = Vec::new();
        let windows = positions(manifest).map(|position| position.bytes);
        for window in windows.filter(|window| window.start < bytes.end && bytes.start < window.end) {
            let piece = &text[window.start as usize..window.end as usize];
            got.extend_from_slice(&piece[cutter.cut(piece)]);
            if cutter.is_done() {
                break;
            }
        }
        cutter.check(lines).map(|()| got)
    }

    proptest! {
        #[test]
        fn lines_are_the_same_with_and_without_counts(
            parts in prop::collection::vec("[a\n]{1,6}", 0..9),
            first in 1u64..12,
            more: Option<u8>,
        ) {
            let text = parts.concat().into_bytes();
            let sizes = Vec::from_iter(parts.iter().map(|part| part.len() as u32));
            let lines: LineRange = match more {
                Some(more) => format!("{first}-{}", first + u64::from(more % 5)).parse().unwrap(),
                None => format!("{first}-").parse().unwrap(),
            };
            let all = Vec::from_iter(text.split_inclusive(|&byte| byte == b'\n'));
            let last = lines.last().map_or(all.len(), |last| all.len().min(last as usize));
            let expected = all.get(first as usize - 1..last).filter(|lines| !lines.is_empty()).map(<[_]>::concat);
            let counted = manifest_of(&text, &sizes);
            let mut old = counted.clone();
            old.shards.iter_mut().for_each(|shard| shard.window_newlines.clear());
            for manifest in [counted, old] {
                match (cut(&text, &manifest, lines), &expected) {
                    (Ok(got), Some(expected)) => prop_assert_eq!(&got, expected),
                    (Err(Error::OutOfRange { size, .. }), None) => prop_assert_eq!(size, all.len() as u64),
                    (other, _) => prop_assert!(false, "{:?} instead of {:?}", other, expected),
                }
            }
        }
    }

    #[test]
    fn only_windows_with_the_lines_are_decoded() {
        let text = b"one\ntwo\nthree\nfour\nfive\n";
        let manifest = manifest_of(text, &[4, 4, 6, 5, 5]);
        let bytes = |lines: &str| extent(&manifest, lines.parse().unwrap()).bytes;
        assert_eq!(bytes("1"), 0..4);
        // The window before the line contains the line feed after which the line begins.
        assert_eq!(bytes("3"), 4..14);
        assert_eq!(bytes("4-"), 8..24);
        assert_eq!(bytes("9"), 19..24);
    }
}
