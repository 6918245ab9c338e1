//! Content-defined chunking: where a text is cut into shards.
//!
//! A shard has 4 to 16 KB (the last may have less). Within that span the best kind of boundary that occurs is taken
//! (a paragraph's end, else a sentence's, else white-space, else any character's), and among those the one whose
//! surrounding bytes hash lowest. A cut so depends on the text near it and not on how far into the document it lies:
//! after an edit the old cuts are soon found again, and the shards beyond it stay what they were. With candidates
//! spread evenly the mean is 10 KB. After FastCDC (Xia et al., 2016), with the minimum of a hash in the place of its
//! threshold, so that no cut is ever forced.
//!
//! Knows bytes only: whether they are UTF-8 is checked in [`crate::ingest::text`].

use std::cmp::Reverse;

use bytes::Bytes;
use c3_types::limits::SHARD_BYTES_MAX;

/// Fewest bytes of a shard that is not its document's last.
const SHARD_BYTES_MIN: usize = 4 << 10;
/// Bytes on either side of a candidate that decide how good a cut it is.
const CONTEXT_BYTES: usize = 32;

/// Bytes from the start of a shard on that decide where it ends.
const DECISIVE_BYTES: usize = SHARD_BYTES_MAX + CONTEXT_BYTES;

/// How many of the first shards of a text, given by their sizes, stay what they are whatever follows the text.
pub(crate) fn settled_count(sizes: &[u64]) -> usize {
    let ends_after = |count: &usize| sizes[*count..].iter().sum::<u64>();
    let open = (0..sizes.len()).rev().take_while(|count| ends_after(count) < DECISIVE_BYTES as u64);
    sizes.len() - open.count()
}

/// Cuts a text that arrives in pieces. The cuts do not depend on how it was split into pieces.
#[derive(Default)]
pub(crate) struct Chunker {
    buffer: Vec<u8>,
}

impl Chunker {
    /// Takes the next piece of the text.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next shard that no further text can change.
    pub(crate) fn next_shard(&mut self) -> Option<Bytes> {
        (self.buffer.len() >= DECISIVE_BYTES).then(|| self.cut())
    }

    /// The next shard of a text that has ended; `None` after the last.
    pub(crate) fn last_shard(&mut self) -> Option<Bytes> {
        match self.buffer.len() {
            0 => None,
            rest if rest <= SHARD_BYTES_MAX => Some(std::mem::take(&mut self.buffer).into()),
            _ => Some(self.cut()),
        }
    }

    /// Takes a shard off a buffer that is longer than the largest.
    fn cut(&mut self) -> Bytes {
        let rest = self.buffer.split_off(best_cut(&self.buffer));
        std::mem::replace(&mut self.buffer, rest).into()
    }
}

/// What a cut would part, best first.
const BOUNDARIES: [fn(&[u8], usize) -> bool; 4] = [ends_paragraph, ends_sentence, ends_word, ends_character];

/// The best place to cut `text`, which is longer than the largest shard.
fn best_cut(text: &[u8]) -> usize {
    let lowest = |boundary: &fn(&[u8], usize) -> bool| {
        let candidates = (SHARD_BYTES_MIN..=SHARD_BYTES_MAX).filter(|&at| boundary(text, at));
        // Where all contexts are equal, as in a run of one character, the fewest shards.
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

/// After the last of a run of line ends that holds an empty line.
fn ends_paragraph(text: &[u8], at: usize) -> bool {
    let before = &text[..at];
    let blank = before.ends_with(b"\n\n") || before.ends_with(b"\n\r\n");
    blank && !matches!(text[at], b'\n' | b'\r')
}

/// After a line's end, after a full stop of Chinese or Japanese, or before the space that follows `.`, `!` or `?`
/// (before it, because a token takes its space along).
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

/// Before white-space.
fn ends_word(text: &[u8], at: usize) -> bool {
    text[at].is_ascii_whitespace() && !text[at - 1].is_ascii_whitespace()
}

/// Between two characters, CR LF counted as one.
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

    /// Prose of `words` words with sentences and paragraphs, the same for the same seed.
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
        fn shards_join_to_the_text_and_keep_their_bounds(text in text()) {
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
        fn pieces_do_not_move_the_cuts(text in text(), size in 1usize..50_000) {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(shards(&pieces), shards(&[text.as_bytes()]));
        }

        #[test]
        fn what_is_settled_stays_whatever_follows(text in text(), more in text()) {
            let before = shards(&[text.as_bytes()]);
            let after = shards(&[text.as_bytes(), more.as_bytes()]);
            let sizes = Vec::from_iter(before.iter().map(|shard| shard.len() as u64));
            let settled = settled_count(&sizes);
            prop_assert_eq!(&before[..settled], &after[..settled]);
            prop_assert!(sizes[settled..].iter().sum::<u64>() < (SHARD_BYTES_MAX + DECISIVE_BYTES) as u64);
        }

        #[test]
        fn an_insertion_leaves_the_shards_before_it(text in text(), place in 0.0..1.0, put in "[a-z .\n]{1,300}") {
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
