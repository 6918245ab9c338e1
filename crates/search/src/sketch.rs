//! Sketch: the hashed terms of one window with rough counts, in about 300 bytes.

mod bits;
mod codec;

use std::ops::Range;

use thiserror::Error;

use crate::analyzer::analyze;
use crate::key::{COMMON, TermId, TermKey};

/// Coarsest resolution of hashes in bits.
const BITS_MIN: u8 = 8;

/// Finest resolution of hashes in bits.
const BITS_MAX: u8 = 20;

/// A window with `n` terms gets hashes of at most log₂ `n` + this many bits: a term that is not in the window seems to
/// be with a probability of 2⁻¹⁰ to 2⁻¹¹. More would lengthen sketches and find hardly better.
const SPARSITY_BITS: u8 = 11;

/// Why bytes are not a sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a sketch of a window: {0}")]
pub struct SketchError(&'static str);

/// Window of a text, to compute its sketch.
#[derive(Clone, Debug)]
pub struct WindowText {
    /// Byte range in the text.
    pub bytes: Range<usize>,
    /// Most bytes that the encoded sketch should have. Hashes get shorter until it fits, which costs precision. Only
    /// about 100 bytes always suffice.
    pub limit: usize,
}

/// Hashed terms of one window, with their counts and the length of the window in terms.
///
/// # Contents
///
/// Terms are hashed with the tenant's [`TermKey`] to between 8 and 20 bits. The number of bits is the *resolution*: as
/// many as fit in the limit, so a window of Chinese, which has twice as many terms as one of English, has shorter
/// hashes. Counts are in four levels: 1, 2, 3 or 4, and more. A term belongs to the window in which it begins, even if
/// it ends in the next one.
///
/// # Leaks
///
/// Whoever has a sketch *and* the key can test whether a term of their choice probably occurs in the window, and so can
/// guess a good part of its vocabulary, but not the order of words. Without the key, a sketch still tells the number of
/// terms, which of 64 common English words occur, and how similar two windows of the same tenant are. So sketches are
/// sealed like the shard to which they belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch {
    bits: u8,
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
            match key.id(term.text) {
                TermId::Common(index) => counts.common[usize::from(index)] += 1,
                TermId::Hashed(hash) => counts.hashes.push(hash),
            }
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

    /// Returns the number of words and bigrams in the window, with repetitions.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Returns the number of bits of each hash.
    pub fn resolution(&self) -> u8 {
        self.bits
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
        let key = id.key(self.bits);
        let index = self.terms.partition_point(|entry| entry.key() < key);
        self.terms.get(index).filter(|entry| entry.key() == key).map(|entry| entry.level())
    }
}

/// Terms of a window while its text is analysed.
#[derive(Clone)]
struct Counts {
    common: [u32; COMMON.len()],
    hashes: Vec<u32>,
    length: u32,
    is_open: bool,
}

impl Default for Counts {
    fn default() -> Self {
        Self { common: [0; COMMON.len()], hashes: Vec::new(), length: 0, is_open: false }
    }
}

impl Counts {
    /// Returns the sketch with the finest useful resolution that fits in `limit` bytes, else the coarsest.
    fn fit(mut self, limit: usize) -> Sketch {
        self.hashes.sort_unstable();
        let distinct = self.hashes.chunk_by(|a, b| a == b).count();
        let finest = (distinct.max(1).ilog2() as u8 + SPARSITY_BITS).clamp(BITS_MIN, BITS_MAX);
        for bits in (BITS_MIN..=finest).rev() {
            let sketch = self.sketch(bits);
            if bits == BITS_MIN || codec::encoded_len(&sketch) <= limit {
                return sketch;
            }
        }
        unreachable!("the coarsest resolution is returned")
    }

    fn sketch(&self, bits: u8) -> Sketch {
        let common = self.common.iter().zip(0..).filter(|(count, _)| **count > 0);
        let common = common.map(|(count, index)| Entry::new(TermId::Common(index).key(bits), level(*count as usize)));
        let key = |hash: &u32| TermId::Hashed(*hash).key(bits);
        let groups = self.hashes.chunk_by(|a, b| key(a) == key(b));
        let hashed = groups.map(|group| Entry::new(key(&group[0]), level(group.len())));
        Sketch { bits, is_open: self.is_open, length: self.length, terms: common.chain(hashed).collect() }
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

    fn key() -> TermKey {
        TermKey::derive(&[3; 32])
    }

    #[test]
    fn counts_are_levels() {
        let text = "one ship two ships three ships; the lamp, the lamp, the the the";
        let sketch = Sketch::of_text(text, 350, &key());
        let level = |term| sketch.level(key().id(term));
        assert_eq!((level("ship"), level("lamp"), level("two"), level("the")), (Some(2), Some(1), Some(0), Some(3)));
        assert_eq!((level("boat"), level("of")), (None, None));
        assert_eq!(sketch.length(), 13);
    }

    #[test]
    fn terms_belong_to_the_window_in_which_they_begin() {
        let text = "red lighthouse 呐喊自序";
        let windows = [0..9, 9..18, 18..text.len()].map(|bytes| WindowText { bytes, limit: 350 });
        let sketches = Sketch::of_windows(text, &windows, &key());
        let contains = |window: usize, term| sketches[window].level(key().id(term)).is_some();
        assert!(contains(0, "red") && contains(0, "lighthous") && !contains(1, "lighthous"));
        assert!(contains(1, "呐喊") && !contains(1, "喊自") && contains(2, "喊自"));
        assert!(sketches[0].is_open() && sketches[1].is_open());
    }

    #[test]
    fn resolution_falls_until_the_sketch_fits() {
        let text: String = (0..2000).map(|number| format!("w{number} ")).collect();
        for limit in [4000, 1000, 350, 200] {
            let sketch = Sketch::of_text(&text, limit, &key());
            assert!(sketch.encode().len() <= limit, "{} bytes", sketch.encode().len());
            assert!((0..2000).all(|number| sketch.level(key().id(&format!("w{number}"))).is_some()));
        }
        assert!(Sketch::of_text(&text, 0, &key()).encode().len() <= 100);
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
