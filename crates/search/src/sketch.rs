//! Sketch: the hashed terms of one window with rough counts, in about 300 bytes.

mod bits;
mod codec;

use std::ops::Range;

use thiserror::Error;

use crate::analyzer::analyze;
use crate::key::{Resolution, Resolutions, Space, TermId, TermKey};

/// Most values of a hash for each word of the window, as a power of two: a word that is not in the window seems to be
/// there with a probability of 2⁻¹¹. More would lengthen sketches and find hardly better.
const WORD_BITS: usize = 11;

/// The same for characters of scripts without spaces, which are few.
const CHARACTER_BITS: usize = 7;

/// The same for bigrams. Of most absent bigrams, a character is absent too, so short hashes suffice.
const PAIR_BITS: usize = 7;

/// Values of a hash for each bigram below which the other hashes are shortened first, as a power of two.
const PAIR_BITS_MIN: usize = 1;

/// Error of decoding a sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a sketch of a window: {0}")]
pub struct SketchError(&'static str);

/// Window of a text, to compute its sketch.
#[derive(Clone, Debug)]
pub struct WindowText {
    /// Byte range in the text.
    pub bytes: Range<usize>,
    /// Most bytes that the encoded sketch should have. Hashes get shorter until it fits, which costs precision. A text
    /// of any length fits in 400 bytes.
    pub limit: usize,
}

/// Hashed terms of one window, with their counts and the length of the window in terms.
///
/// # Contents
///
/// Terms are hashed with the tenant's [`TermKey`] to between 8 and 20 bits. The number of values is the *resolution*:
/// as high as fits in the limit. Words, characters and bigrams have resolutions of their own. Those of bigrams are the
/// lowest, because a bigram counts only if its characters are there too. Counts of words and characters are in four
/// levels: 1, 2, 3 or 4, and more. A term belongs to the window in which it begins, even if it ends in the next one.
///
/// # Leaks
///
/// Whoever has a sketch *and* the key can test whether a term of their choice probably occurs in the window, and so can
/// guess a good part of its vocabulary, but not the order of words. Without the key, a sketch still tells the number of
/// terms, the rough language, and how similar two windows of the same tenant are. So sketches are sealed like the shard
/// to which they belong, and are deleted with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch {
    resolutions: Resolutions,
    is_open: bool,
    length: u32,
    /// Sorted by key, without duplicates.
    terms: Vec<Entry>,
}

/// Posting key of a term and, in the two lowest bits, the level of its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(u32);

impl Entry {
    pub(crate) fn new(key: u32, level: u8) -> Self {
        Self(key << 2 | u32::from(level))
    }

    pub(crate) fn key(self) -> u32 {
        self.0 >> 2
    }

    pub(crate) fn level(self) -> u8 {
        (self.0 & 3) as u8
    }
}

impl Sketch {
    /// Returns the sketch of a text that is one window.
    pub fn of_text(text: &str, limit: usize, key: &TermKey) -> Self {
        let mut sketches = Self::of_windows(text, &[WindowText { bytes: 0..text.len(), limit }], key);
        sketches.pop().expect("one window has one sketch")
    }

    /// Returns the sketches of consecutive windows of a text, usually a shard.
    ///
    /// # Panics
    ///
    /// Panics if the windows do not cover the text in order, without gaps.
    pub fn of_windows(text: &str, windows: &[WindowText], key: &TermKey) -> Vec<Self> {
        let mut start = 0;
        for window in windows {
            assert!(window.bytes.start == start && window.bytes.end >= start, "windows are consecutive");
            start = window.bytes.end;
        }
        assert_eq!(start, text.len(), "windows cover the text");
        let mut counts = vec![Counts::default(); windows.len()];
        analyze(text, |term| {
            let window = windows.partition_point(|window| window.bytes.end <= term.bytes.start);
            let counts = &mut counts[window];
            let id = key.id(term.text, term.kind);
            counts.ids[id.space() as usize].push(id.hash());
            counts.length += u32::from(term.kind.counts());
            counts.is_open |= term.bytes.end > windows[window].bytes.end || term.bytes.end == text.len();
        });
        windows.iter().zip(counts).map(|(window, counts)| counts.fit(window.limit)).collect()
    }

    /// Returns the encoded sketch.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes a sketch. The memory that this takes is bounded by the length of `bytes`.
    ///
    /// # Errors
    ///
    /// Fails if `bytes` are not exactly one sketch of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, SketchError> {
        codec::decode(bytes)
    }

    /// Returns the number of words and characters in the window, with repetitions.
    pub fn length(&self) -> u32 {
        self.length
    }

    pub(crate) fn resolutions(&self) -> Resolutions {
        self.resolutions
    }

    /// Returns whether the last term of the window may continue in the next one.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(crate) fn terms(&self) -> &[Entry] {
        &self.terms
    }

    /// Returns the level of a term's count if the window seems to contain the term.
    pub(crate) fn level(&self, id: TermId) -> Option<u8> {
        let key = id.key(self.resolutions);
        let index = self.terms.partition_point(|entry| entry.key() < key);
        self.terms.get(index).filter(|entry| entry.key() == key).map(|entry| entry.level())
    }
}

/// Terms of a window while its text is analysed.
#[derive(Clone, Default)]
struct Counts {
    /// Hashes and numbers of the terms of each space, with repetitions.
    ids: [Vec<u32>; Space::ALL.len()],
    length: u32,
    is_open: bool,
}

impl Counts {
    /// Returns the sketch with the finest useful resolutions that fit in `limit` bytes, else the coarsest.
    fn fit(mut self, limit: usize) -> Sketch {
        self.ids.iter_mut().for_each(|ids| ids.sort_unstable());
        // The length falls with the number of steps.
        let (mut fits, mut too_long) = (2 * Resolution::MAX.number(), None);
        while too_long.map_or(0, |steps: u8| steps + 1) < fits {
            let first = too_long.map_or(0, |steps| steps + 1);
            let steps = first + (fits - first) / 2;
            if codec::encoded_len(&self.sketch(self.resolutions(steps))) <= limit {
                fits = steps;
            } else {
                too_long = Some(steps);
            }
        }
        self.sketch(self.resolutions(fits))
    }

    /// Returns the finest useful resolutions, lowered by `steps`: first only those of bigrams, then all.
    fn resolutions(&self, steps: u8) -> Resolutions {
        let [_, _, words, characters, pairs] =
            [0, 1, 2, 3, 4].map(|space: usize| self.ids[space].chunk_by(|a, b| a == b).count());
        let (finest, coarse) = (Resolution::at_least(pairs << PAIR_BITS), Resolution::at_least(pairs << PAIR_BITS_MIN));
        let pair_steps = steps.min(finest.number() - coarse.number());
        Resolutions {
            words: Resolution::at_least(words << WORD_BITS).lowered(steps - pair_steps),
            characters: Resolution::at_least(characters << CHARACTER_BITS).lowered(steps - pair_steps),
            pairs: finest.lowered(steps),
        }
    }

    fn sketch(&self, resolutions: Resolutions) -> Sketch {
        let mut terms = Vec::new();
        for (space, ids) in Space::ALL.into_iter().zip(&self.ids) {
            let key = |hash: &u32| TermId::new(space, *hash).key(resolutions);
            let level = |count| if space == Space::Pair { 0 } else { level(count) };
            let groups = ids.chunk_by(|a, b| key(a) == key(b));
            terms.extend(groups.map(|group| Entry::new(key(&group[0]), level(group.len()))));
        }
        // The resolution of an empty section is not stored.
        let stored =
            |space: Space, resolution| if self.ids[space as usize].is_empty() { Resolution::MIN } else { resolution };
        let resolutions = Resolutions {
            words: stored(Space::Word, resolutions.words),
            characters: stored(Space::Character, resolutions.characters),
            pairs: stored(Space::Pair, resolutions.pairs),
        };
        Sketch { resolutions, is_open: self.is_open, length: self.length, terms }
    }
}

/// Returns the level of a count.
fn level(count: usize) -> u8 {
    match count {
        0..=1 => 0,
        2 => 1,
        3..=4 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analyzer::TermKind;

    fn key() -> TermKey {
        TermKey::derive(&[3; 32])
    }

    fn level_of(sketch: &Sketch, term: &str, kind: TermKind) -> Option<u8> {
        sketch.level(key().id(term, kind))
    }

    #[test]
    fn counts_are_levels() {
        let text = "one ship two ships three ships; the lamp, the lamp, the the the";
        let sketch = Sketch::of_text(text, 350, &key());
        let level = |term| level_of(&sketch, term, TermKind::Word);
        assert_eq!((level("ship"), level("lamp"), level("two"), level("the")), (Some(2), Some(1), Some(0), Some(3)));
        assert_eq!((level("boat"), level("of")), (None, None));
        assert_eq!(sketch.length(), 13);
    }

    #[test]
    fn terms_belong_to_the_window_in_which_they_begin() {
        let text = "red lighthouse 呐喊自序";
        let windows = [0..9, 9..18, 18..text.len()].map(|bytes| WindowText { bytes, limit: 350 });
        let sketches = Sketch::of_windows(text, &windows, &key());
        let contains = |window: usize, term, kind| level_of(&sketches[window], term, kind).is_some();
        assert!(contains(0, "red", TermKind::Word) && contains(0, "lighthous", TermKind::Word));
        assert!(!contains(1, "lighthous", TermKind::Word) && contains(1, "呐", TermKind::Character));
        assert!(contains(1, "呐喊", TermKind::Bigram) && contains(2, "喊自", TermKind::Bigram));
        assert!(sketches[0].is_open() && sketches[1].is_open());
    }

    #[test]
    fn resolution_falls_until_the_sketch_fits() {
        let words: String = (0..2000).map(|number| format!("w{number} ")).collect();
        let characters: String = ('\u{4e00}'..'\u{5000}').collect();
        for (limit, text) in [4000, 1000, 400].into_iter().zip([words.clone() + &characters, words, characters]) {
            let sketch = Sketch::of_text(&text, limit, &key());
            assert!(sketch.encode().len() <= limit, "{} bytes", sketch.encode().len());
            analyze(&text, |term| assert!(level_of(&sketch, term.text, term.kind).is_some()));
        }
    }

    #[test]
    fn a_word_may_have_the_form_of_a_common_character() {
        let sketch = Sketch::of_text("\u{3038}字", 350, &key());
        assert_eq!(Sketch::decode(&sketch.encode()), Ok(sketch));
    }

    proptest! {
        #[test]
        fn a_sketch_survives_its_encoding(text in "([a-z]{1,4} |字|\\PC){0,300}", limit in 0..500usize) {
            let sketch = Sketch::of_text(&text, limit, &key());
            let encoded = sketch.encode();
            prop_assert_eq!(encoded.len(), codec::encoded_len(&sketch));
            prop_assert_eq!(Sketch::decode(&encoded), Ok(sketch));
            for end in 0..encoded.len() {
                prop_assert!(Sketch::decode(&encoded[..end]).is_err());
            }
            prop_assert!(Sketch::decode(&[&encoded[..], &[0]].concat()).is_err());
        }
    }
}
