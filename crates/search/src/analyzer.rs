//! Analyser: cuts a text into the terms under which it is found.
//!
//! The same analyser serves documents and queries. It never looks further than one run of characters, so the terms of a
//! phrase are the same wherever the phrase occurs. Its time is linear in the length of the text.
//!
//! | text | terms |
//! |---|---|
//! | `Running boats` | `run`, `boat`: lower case, Snowball's English stemmer for all words in Latin letters |
//! | `café`, `Ｎ５` | `cafe`, `n5`: NFKD, without the diacritics of Latin letters |
//! | `don't`, `1,234.5` | `don't`, `1234.5`: one word each |
//! | `TermKey` | `termkey`, and the parts `term` and `key` |
//! | `snake_case`, `a/b.rs`, `v1.2.3`, `--dry-run` | each word, and the compound: `snake_case`, `dry-run` |
//! | `呐喊自` | each character, and the bigrams `呐喊`, `喊自`. So too kana, Hangul, Thai, Lao, Burmese and Khmer |
//! | `他的` | `他`, `的`: no bigrams with common function characters, which hardly distinguish texts |
//!
//! Libraries were examined first. tantivy's tokenizers come only with tantivy, and neither form bigrams of one script
//! nor keep identifiers. charabia without its dictionaries cuts CJK into characters, adds nine crates and does not
//! stem. The words of UAX 29 (`unicode-segmentation`) join `a.b`, `a:b` and `a_b` but separate each kana and each Thai
//! character, so both would have to be undone. Therefore only the stemmer (`rust-stemmers`) and the normalisation
//! (`unicode-normalization`) are libraries.

mod normal;
mod runs;

use std::ops::Range;

use self::normal::Normalizer;
pub(crate) use self::runs::{Script, runs};

/// Longest term in bytes. Longer ones are cut, so that a megabyte without a space is one short term.
pub const TERM_BYTES_MAX: usize = 64;

/// Longest identifier whose parts become terms. Longer runs of letters and digits are data, for example Base64.
const SPLIT_BYTES_MAX: usize = 40;

/// Characters that join words to a compound, if exactly one of them stands between two words.
const JOINERS: &[u8] = b"_-./\\:@+#&~=";

/// Common function words of Chinese, and characters of many words. Half of all bigrams contain one. Without these, the
/// others have longer hashes, which finds more: 73.2 % of the Chinese questions in `tests/fixtures/search` as the best
/// hit instead of 70.8 %, although BM25 over the text finds 74.7 % instead of 77.1 %.
const FUNCTION_CHARACTERS: [char; 36] = [
    '的', '了', '着', '是', '在', '不', '也', '就', '都', '而', '之', '与', '和', '么', '吗', '呢', '吧', '我', '你',
    '他', '她', '它', '们', '这', '那', '一', '个', '有', '说', '上', '来', '去', '到', '要', '人', '大',
];

/// Kind of a [`Term`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermKind {
    /// Word or number.
    Word,
    /// Part of an identifier in camel case.
    Part,
    /// Several words with a joiner between each two.
    Compound,
    /// Character of a script that is written without spaces, with its marks.
    Character,
    /// Two neighbouring characters of such a script.
    Bigram,
}

impl TermKind {
    /// Returns whether terms of this kind count towards the length of a text. The others repeat these.
    pub fn counts(self) -> bool {
        matches!(self, Self::Word | Self::Character)
    }
}

/// Term of a text.
#[derive(Debug)]
pub struct Term<'a> {
    /// Normalised form. Texts with equal forms match.
    pub text: &'a str,
    /// Byte range in the analysed text, at character boundaries.
    pub bytes: Range<usize>,
    /// Kind of the term.
    pub kind: TermKind,
    /// Index in `text` at which the second character of a bigram begins. 0 for other terms.
    pub split: usize,
}

/// Term of a query, without its place in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryTerm {
    /// Normalised form.
    pub text: String,
    /// Kind of the term.
    pub kind: TermKind,
    /// Index in `text` at which the second character of a bigram begins. 0 for other terms.
    pub split: usize,
}

impl From<&Term<'_>> for QueryTerm {
    fn from(term: &Term<'_>) -> Self {
        Self { text: term.text.to_owned(), kind: term.kind, split: term.split }
    }
}

/// Calls `emit` for each term of `text`. Words, characters and bigrams come in the order in which they begin.
pub fn analyze(text: &str, mut emit: impl FnMut(Term<'_>)) {
    let mut normalizer = Normalizer::new();
    let mut compound = Compound::default();
    for run in runs(text) {
        match run.script {
            Script::Spaced => {
                if !compound.extend(text, &run.bytes) {
                    compound.finish(text, &mut normalizer, &mut emit);
                    compound = Compound { bytes: run.bytes.clone(), words: 1 };
                }
                word(text, run.bytes, &mut normalizer, &mut emit);
            }
            Script::Continuous => characters(text, run.bytes, &mut normalizer, &mut emit),
        }
    }
    compound.finish(text, &mut normalizer, &mut emit);
}

/// Words with single joiners between them.
#[derive(Default)]
struct Compound {
    bytes: Range<usize>,
    words: usize,
}

impl Compound {
    /// Adds the word at `bytes` if exactly one joiner separates it from the compound.
    fn extend(&mut self, text: &str, bytes: &Range<usize>) -> bool {
        let joined =
            self.words > 0 && bytes.start == self.bytes.end + 1 && JOINERS.contains(&text.as_bytes()[self.bytes.end]);
        if joined {
            self.bytes.end = bytes.end;
            self.words += 1;
        }
        joined
    }

    fn finish(&self, text: &str, normalizer: &mut Normalizer, emit: &mut impl FnMut(Term<'_>)) {
        if self.words > 1 && self.bytes.len() <= TERM_BYTES_MAX {
            let form = normalizer.form(&text[self.bytes.clone()]);
            emit(Term { text: form, bytes: self.bytes.clone(), kind: TermKind::Compound, split: 0 });
        }
    }
}

fn word(text: &str, bytes: Range<usize>, normalizer: &mut Normalizer, emit: &mut impl FnMut(Term<'_>)) {
    let whole = &text[bytes.clone()];
    emit(Term { text: normalizer.stem(whole), bytes: bytes.clone(), kind: TermKind::Word, split: 0 });
    if whole.len() > SPLIT_BYTES_MAX || !whole.is_ascii() {
        return;
    }
    let mut start = 0;
    for end in 1..=whole.len() {
        let is_end = if end == whole.len() { start > 0 } else { is_hump(whole.as_bytes(), end) };
        if is_end {
            let part = bytes.start + start..bytes.start + end;
            emit(Term { text: normalizer.stem(&whole[start..end]), bytes: part, kind: TermKind::Part, split: 0 });
            start = end;
        }
    }
}

/// Returns whether a part of an identifier in camel case begins at `at`: `term|Key`, `HTTP|Server`, but not `GP|Us`.
fn is_hump(word: &[u8], at: usize) -> bool {
    let is_lower = |index: usize| word.get(index).is_some_and(u8::is_ascii_lowercase);
    word[at].is_ascii_uppercase()
        && (!word[at - 1].is_ascii_uppercase() && word[at - 1] != b'\'' || is_lower(at + 1) && is_lower(at + 2))
}

fn characters(text: &str, bytes: Range<usize>, normalizer: &mut Normalizer, emit: &mut impl FnMut(Term<'_>)) {
    let mut pair = String::new();
    let mut previous = bytes.start..bytes.start;
    for unit in runs::units(text, bytes) {
        let form = normalizer.form(&text[unit.clone()]);
        let split = pair.len();
        pair.push_str(form);
        if split > 0 && !is_function(&pair[..split]) && !is_function(form) {
            emit(Term { text: &pair, bytes: previous.start..unit.end, kind: TermKind::Bigram, split });
        }
        pair.drain(..split);
        emit(Term { text: &pair, bytes: unit.clone(), kind: TermKind::Character, split: 0 });
        previous = unit;
    }
}

/// Returns whether a character is one of [`FUNCTION_CHARACTERS`].
fn is_function(character: &str) -> bool {
    let mut characters = character.chars();
    let is_function = characters.next().is_some_and(|c| FUNCTION_CHARACTERS.contains(&c));
    is_function && characters.next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms(text: &str) -> Vec<String> {
        let mut terms = Vec::new();
        analyze(text, |term| terms.push(term.text.to_owned()));
        terms
    }

    #[test]
    fn words_are_lower_case_stems() {
        assert_eq!(terms("Running boats, she said."), ["run", "boat", "she", "said"]);
        assert_eq!(terms("Café cafe\u{301} Ｎ５ ﬁnds"), ["cafe", "cafe", "n5", "find"]);
        assert_eq!(terms("don't don’t Dickens's 'quoted'"), ["don't", "don't", "dicken", "quot"]);
        assert_eq!(terms("Привет, Ελλάδα!"), ["привет", "ελλάδα"]);
    }

    #[test]
    fn numbers_keep_their_decimals() {
        assert_eq!(
            terms("1,234.5 and 3.14, 1,2 and 12,3456."),
            ["1234.5", "and", "3.14", "1", "2", "and", "12", "3456"]
        );
        assert_eq!(terms("127.0.0.1"), ["127.0.0.1"]);
    }

    #[test]
    fn identifiers_are_found_whole_and_in_parts() {
        assert_eq!(terms("TermKey"), ["termkey", "term", "key"]);
        assert_eq!(terms("HTTPServer GPUs sha256"), ["httpserver", "http", "server", "gpus", "sha256"]);
        assert_eq!(terms("snake_case x"), ["snake", "case", "snake_case", "x"]);
        assert_eq!(terms("a/b/c.rs"), ["a", "b", "c", "rs", "a/b/c.rs"]);
        assert_eq!(terms("v1.2.3 --flag-name"), ["v1", "2.3", "v1.2.3", "flag", "name", "flag-name"]);
        assert_eq!(terms("well--known"), ["well", "known"]);
    }

    #[test]
    fn scripts_without_spaces_become_characters_and_bigrams() {
        assert_eq!(terms("呐喊自。水"), ["呐", "呐喊", "喊", "喊自", "自", "水"]);
        assert_eq!(terms("他的水"), ["他", "的", "水"]);
        assert_eq!(terms("3月5日 iPhone手机"), ["3", "月", "5", "日", "iphon", "i", "phone", "手", "手机", "机"]);
        assert_eq!(terms("ガス ｶﾞｽ"), ["ガ", "ガス", "ス", "ガ", "ガス", "ス"]);
        assert_eq!(terms("서울은"), ["서", "서울", "울", "울은", "은"]);
        assert_eq!(terms("ที่นี่"), ["ที่", "ที่นี่", "นี่"]);
    }

    #[test]
    fn punctuation_and_emoji_are_no_terms() {
        assert!(terms("… — ?! ()\"' 🙂👩‍👩‍👧 \u{301}\u{200d} ।").is_empty());
        assert_eq!(terms("a🙂b"), ["a", "b"]);
    }

    #[test]
    fn scripts_from_right_to_left_keep_their_marks() {
        assert_eq!(terms("שלום עולם"), ["שלום", "עולם"]);
        assert_eq!(terms("كِتاب"), ["كِتاب"]);
        assert_eq!(terms("हिन्दी में"), ["हिन्दी", "में"]);
    }

    #[test]
    fn a_megabyte_in_one_line_yields_short_terms() {
        for unit in ["x", "é", "字", "a_", "1,", "aB", "'", "a'", "e\u{301}", "\u{fdfa}", "\u{301}", "\u{e35}"] {
            let text = unit.repeat((1 << 20) / unit.len());
            analyze(&text, |term| assert!(term.text.len() <= TERM_BYTES_MAX));
        }
    }

    proptest! {
        #[test]
        fn ranges_are_within_the_text(text in "\\PC{0,200}") {
            let mut last = 0;
            analyze(&text, |term| {
                assert!(!text[term.bytes.clone()].is_empty() && !term.text.is_empty());
                if term.kind.counts() {
                    assert!(term.bytes.start >= last);
                    last = term.bytes.start;
                }
            });
        }

        /// Phrases are found because the terms of a run do not depend on its neighbours.
        #[test]
        fn terms_of_words_do_not_depend_on_their_neighbours(a in "[a-zA-Z字,.']{0,9}", b in "[a-zA-Z字0-9_.']{1,9}") {
            let joined = terms(&format!("{a} {b} {a}"));
            for term in terms(&b) {
                prop_assert!(joined.contains(&term), "{term} is not in {joined:?}");
            }
        }
    }
}
