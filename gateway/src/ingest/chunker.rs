//! Content-defined chunking: cuts a text into shards.
//!
//! A shard has 4 to 16 KB; the last one may have less. Between these sizes, the chunker looks for ends of paragraphs;
//! if there are none, for ends of sentences, then of words, then of characters. Among the boundaries of the best kind
//! that it finds, it cuts at the one whose surrounding bytes have the lowest hash. A cut therefore depends on the text
//! near it, not on its position in the document: soon after the place of an edit, cuts and shards are the same as
//! before. The mean size is 10 KB if boundaries are evenly spread. FastCDC (Xia et al., 2016) is similar, but cuts
//! where a hash is below a threshold. If no hash is below it, FastCDC cuts at the maximum size, and such a cut depends
//! on the position. Cutting at the lowest hash avoids such cuts.
//!
//! Operates on bytes. [`super::text`] checks UTF-8.

use std::cmp::Reverse;

use bytes::Bytes;
use c3_types::limits::SHARD_BYTES_MAX;

/// Minimum size of a shard, except the last of a document, in bytes.
const SHARD_BYTES_MIN: usize = 4 << 10;
/// Number of bytes that are hashed on each side of a boundary.
const CONTEXT_BYTES: usize = 32;

/// Number of bytes, counted from the start of a shard, that determine where the shard ends.
const DECISIVE_BYTES: usize = SHARD_BYTES_MAX + CONTEXT_BYTES;

/// Returns the number of leading shards that stay the same even if the text is continued. `sizes` are the sizes of all
/// shards of the text, in bytes.
pub(crate) fn settled_count(sizes: &[u64]) -> usize {
    let bytes_from = |index: &usize| sizes[*index..].iter().sum::<u64>();
    let unsettled = (0..sizes.len()).rev().take_while(|index| bytes_from(index) < DECISIVE_BYTES as u64);
    sizes.len() - unsettled.count()
}

/// Cuts a text that arrives in pieces. The cuts do not depend on the pieces.
#[derive(Default)]
pub(crate) struct Chunker {
    buffer: Vec<u8>,
}

impl Chunker {
    /// Adds the next piece of the text.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// Removes and returns the next shard; `None` if further text could change it.
    pub(crate) fn next_shard(&mut self) -> Option<Bytes> {
        (self.buffer.len() >= DECISIVE_BYTES).then(|| self.cut())
    }

    /// Removes and returns the next shard after the text has ended; `None` after the last one.
    pub(crate) fn last_shard(&mut self) -> Option<Bytes> {
        match self.buffer.len() {
            0 => None,
            rest if rest <= SHARD_BYTES_MAX => Some(std::mem::take(&mut self.buffer).into()),
            _ => Some(self.cut()),
        }
    }

    /// Removes a shard from the buffer, which must be larger than the maximum size of a shard.
    fn cut(&mut self) -> Bytes {
        let rest = self.buffer.split_off(best_cut(&self.buffer));
        std::mem::replace(&mut self.buffer, rest).into()
    }
}

/// Kinds of boundaries, best first. Each function returns whether an offset is such a boundary.
const BOUNDARIES: [fn(&[u8], usize) -> bool; 4] = [ends_paragraph, ends_sentence, ends_word, ends_character];

/// Returns the best byte offset at which to cut `text`, which must be larger than the maximum size of a shard.
fn best_cut(text: &[u8]) -> usize {
    let lowest = |boundary: &fn(&[u8], usize) -> bool| {
        let candidates = (SHARD_BYTES_MIN..=SHARD_BYTES_MAX).filter(|&at| boundary(text, at));
        // Among equal hashes, as in a run of one character, the cut that makes the largest shard is best.
        candidates.min_by_key(|&at| (context_hash(text, at), Reverse(at)))
    };
    let cut = BOUNDARIES.iter().find_map(lowest);
    cut.unwrap_or(SHARD_BYTES_MAX)
}

fn context_hash(text: &[u8], at: usize) -> u64 {
    let context = &text[at - CONTEXT_BYTES..text.len().min(at + CONTEXT_BYTES)];
    let hash = blake3::hash(context);
    hash.as_bytes()[..8].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Returns whether a run of line breaks that contains an empty line ends at `at`.
fn ends_paragraph(text: &[u8], at: usize) -> bool {
    let before = &text[..at];
    let blank = before.ends_with(b"\n\n") || before.ends_with(b"\n\r\n");
    blank && !matches!(text[at], b'\n' | b'\r')
}

/// Returns whether a run of line breaks or a sentence ends at `at`. A Chinese or Japanese sentence ends after its full
/// stop. Other sentences end before the space that follows `.`, `!` or `?` and any closing quotes. The space belongs to
/// the next shard, because a token contains the space before its word.
fn ends_sentence(text: &[u8], at: usize) -> bool {
    const FULL_STOPS: [&str; 3] = ["。", "！", "？"];
    let before = &text[..at];
    if before.ends_with(b"\n") {
        return !matches!(text[at], b'\n' | b'\r');
    }
    if FULL_STOPS.iter().any(|stop| before.ends_with(stop.as_bytes())) {
        return true;
    }
    let unquoted = before.iter().rev().find(|byte| !matches!(byte, b'"' | b'\'' | b')' | b']'));
    text[at] == b' ' && matches!(unquoted, Some(b'.' | b'!' | b'?'))
}

/// Returns whether white space begins at `at`.
fn ends_word(text: &[u8], at: usize) -> bool {
    text[at].is_ascii_whitespace() && !text[at - 1].is_ascii_whitespace()
}

/// Returns whether `at` is between two characters. CR LF counts as one character.
fn ends_character(text: &[u8], at: usize) -> bool {
    let continues = text[at] & 0xC0 == 0x80;
    !continues && text[at - 1..=at] != *b"\r\n"
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn shards(pieces: &[&[u8]]) -> Vec<Bytes> {
        let mut chunker = Chunker::default();
        let mut shards = Vec::new();
        for piece in pieces {
            chunker.push(piece);
            while let Some(shard) = chunker.next_shard() {
                shards.push(shard);
            }
        }
        while let Some(shard) = chunker.last_shard() {
            shards.push(shard);
        }
        shards
    }

    /// Returns prose of this many words, with sentences and paragraphs. Equal seeds produce equal prose.
    fn prose(words: u32, seed: u32) -> String {
        let mut text = String::new();
        for i in 0..words {
            let hash = blake3::hash(&[seed.to_le_bytes(), i.to_le_bytes()].concat());
            let [length, end, ..] = *hash.as_bytes();
            text.extend(hash.to_hex().chars().take(1 + usize::from(length % 9)));
            text.push_str(match end {
                0..3 => ".\n\n",
                3..20 => ". ",
                20..30 => "\n",
                _ => " ",
            });
        }
        text
    }

    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            (1u32..3000, any::<u32>()).prop_map(|(words, seed)| prose(words, seed)),
            (1usize..60_000).prop_map(|count| "x".repeat(count)),
            (1usize..9_000).prop_map(|count| "漢字。".repeat(count)),
            (1usize..3_000).prop_map(|count| "👩‍👩‍👧\r\n".repeat(count)),
            any::<String>(),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn shards_join_to_the_text_and_respect_the_size_limits(text in text()) {
            let shards = shards(&[text.as_bytes()]);
            prop_assert_eq!(shards.concat(), text.as_bytes());
            for shard in &shards {
                prop_assert!(shard.len() <= SHARD_BYTES_MAX && !shard.is_empty());
                prop_assert!(std::str::from_utf8(shard).is_ok());
            }
            for shard in shards.iter().rev().skip(1) {
                prop_assert!(shard.len() >= SHARD_BYTES_MIN);
            }
        }

        #[test]
        fn cuts_do_not_depend_on_the_pieces(text in text(), size in 1usize..50_000) {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(shards(&pieces), shards(&[text.as_bytes()]));
        }

        #[test]
        fn settled_shards_stay_the_same_if_the_text_is_continued(text in text(), more in text()) {
            let before = shards(&[text.as_bytes()]);
            let after = shards(&[text.as_bytes(), more.as_bytes()]);
            let sizes = Vec::from_iter(before.iter().map(|shard| shard.len() as u64));
            let settled = settled_count(&sizes);
            prop_assert_eq!(&before[..settled], &after[..settled]);
            prop_assert!(sizes[settled..].iter().sum::<u64>() < (SHARD_BYTES_MAX + DECISIVE_BYTES) as u64);
        }

        #[test]
        fn an_insertion_keeps_the_shards_before_it(text in text(), place in 0.0..1.0, put in "[a-z .\n]{1,300}") {
            let at = text.floor_char_boundary((place * text.len() as f64) as usize);
            let edited = [&text[..at], &put, &text[at..]].concat();
            let (before, after) = (shards(&[text.as_bytes()]), shards(&[edited.as_bytes()]));
            let mut start = 0;
            for (i, shard) in before.iter().enumerate() {
                if start + SHARD_BYTES_MAX + CONTEXT_BYTES > at {
                    break;
                }
                prop_assert_eq!(shard, &after[i]);
                start += shard.len();
            }
        }
    }

    #[test]
    fn an_edit_changes_few_shards() {
        let text = prose(60_000, 7);
        let before: HashSet<Bytes> = shards(&[text.as_bytes()]).into_iter().collect();
        let changed: Vec<usize> = (1..100)
            .map(|i| {
                let at = i * text.len() / 100;
                let edited = [&text[..at], "an inserted paragraph of some words.\n\n", &text[at..]].concat();
                shards(&[edited.as_bytes()]).iter().filter(|shard| !before.contains(*shard)).count()
            })
            .collect();
        let mean = changed.iter().sum::<usize>() as f64 / changed.len() as f64;
        assert!(mean < 2.0, "{mean} shards change in the mean: {changed:?}");
        assert!(changed.iter().all(|&count| count <= 8), "{changed:?}");
    }

    #[test]
    fn the_mean_is_near_ten_kilobytes() {
        let text = prose(200_000, 3);
        let mean = text.len() / shards(&[text.as_bytes()]).len();
        assert!((8 << 10..12 << 10).contains(&mean), "{mean}");
    }

    #[test]
    fn cuts_prefer_paragraphs() {
        let text = format!("{}\n\n{}", "word. ".repeat(1500), "word. ".repeat(3000));
        assert!(shards(&[text.as_bytes()])[0].ends_with(b"\n\n"));
    }

    #[test]
    fn an_empty_text_has_no_shard() {
        assert!(shards(&[b""]).is_empty());
    }
}
