//! Phrases: word sequences and substrings that must occur in the text itself.

use std::ops::Range;

use crate::analyzer::{QueryTerm, Script, TermKind, analyze, runs};

/// Phrase that is looked for in decoded text. Sketches only select the windows that may contain it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phrase {
    text: String,
    terms: Vec<QueryTerm>,
    kind: PhraseKind,
}

/// Rule by which a phrase is compared with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PhraseKind {
    /// Case and the kind of white space do not matter. Begins and ends between words.
    Words,
    /// Byte for byte, also within words.
    Exact,
}

impl Phrase {
    /// Returns the phrase that consists of the words of `text`. It matches in any case and with any white space, for
    /// example across a line break, but only whole words. Scripts without spaces have no words: there, it matches any
    /// substring.
    pub fn words(text: &str) -> Self {
        let text = text.trim();
        let mut terms = Vec::new();
        analyze(text, |term| {
            if term.kind.counts() || term.kind == TermKind::Bigram {
                terms.push(QueryTerm::from(&term));
            }
        });
        Self { text: Folded::new(text).text, terms, kind: PhraseKind::Words }
    }

    /// Returns the phrase that is exactly `text`, which may begin and end within words. Only words that are certainly
    /// whole select windows: those with a space, a bracket or the like on both sides.
    pub fn exact(text: &str) -> Self {
        let is_border = |c: Option<char>| c.is_some_and(|c| !c.is_alphanumeric() && !is_joint(c));
        let mut terms = Vec::new();
        analyze(text, |term| {
            let before = text[..term.bytes.start].chars().next_back();
            let after = text[term.bytes.end..].chars().next();
            let is_whole = match term.kind {
                TermKind::Word => is_border(before) && is_border(after),
                TermKind::Character | TermKind::Bigram => true,
                TermKind::Part | TermKind::Compound => false,
            };
            if is_whole {
                terms.push(QueryTerm::from(&term));
            }
        });
        Self { text: text.to_owned(), terms, kind: PhraseKind::Exact }
    }

    /// Returns the whole terms of the phrase, in order. A phrase without one cannot be searched for.
    pub fn terms(&self) -> &[QueryTerm] {
        &self.terms
    }

    /// Returns the byte ranges of all occurrences in `text`, in order, without overlaps. Takes linear time.
    pub fn find_in(&self, text: &str) -> Vec<Range<usize>> {
        if self.text.is_empty() {
            return Vec::new();
        }
        match self.kind {
            PhraseKind::Exact => text.match_indices(&self.text).map(|(at, found)| at..at + found.len()).collect(),
            PhraseKind::Words => self.find_words(text),
        }
    }

    fn find_words(&self, text: &str) -> Vec<Range<usize>> {
        let folded = Folded::new(text);
        let words: Vec<_> = runs(text).filter(|run| run.script == Script::Spaced).map(|run| run.bytes).collect();
        let is_within_word = |at: usize| {
            let word = words.get(words.partition_point(|word| word.end <= at));
            word.is_some_and(|word| word.start < at)
        };
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(start) = folded.text[at..].find(&self.text).map(|index| at + index) {
            let range = folded.origin(start..start + self.text.len());
            // Later occurrences may overlap with one that is not at word borders.
            at = start + folded.text[start..].chars().next().map_or(1, char::len_utf8);
            if !is_within_word(range.start) && !is_within_word(range.end) {
                at = start + self.text.len();
                found.push(range);
            }
        }
        found
    }
}

/// Returns whether `c` may stand within a word or number as the analyser cuts them, or belongs to the letter before it.
fn is_joint(c: char) -> bool {
    matches!(c, '\'' | '’' | '.' | ',' | '\u{200c}' | '\u{200d}') || unicode_normalization::char::is_combining_mark(c)
}

/// Text in lower case, in which white space is one space, with the origin of each byte.
struct Folded {
    text: String,
    /// Start in the original text of the character to which each byte of `text` belongs, and the end of the original.
    origins: Vec<usize>,
}

impl Folded {
    fn new(original: &str) -> Self {
        let mut text = String::with_capacity(original.len());
        let mut origins = Vec::with_capacity(original.len() + 1);
        let mut after_space = false;
        for (at, c) in original.char_indices() {
            if !c.is_whitespace() {
                text.extend(c.to_lowercase());
            } else if !after_space {
                text.push(' ');
            }
            after_space = c.is_whitespace();
            origins.resize(text.len(), at);
        }
        origins.push(original.len());
        Self { text, origins }
    }

    /// Returns the range in the original text of a nonempty range of `text`. White space after it is left out.
    fn origin(&self, range: Range<usize>) -> Range<usize> {
        let start = self.origins[range.start];
        // The range ends where the next character of the original begins, and white space is folded into its first one.
        let last = self.origins[range.end - 1];
        let rest = &self.origins[range.end..];
        let end = rest.iter().copied().find(|origin| *origin > last).unwrap_or(last);
        start..end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found<'a>(phrase: &str, text: &'a str) -> Vec<&'a str> {
        Phrase::words(phrase).find_in(text).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn words_match_in_any_case_and_with_any_space() {
        assert_eq!(found("old man walked", "The Old\n  Man walked. The old man walks."), ["Old\n  Man walked"]);
        assert_eq!(found("İx  y", "a İX\u{3000}y"), ["İX\u{3000}y"]);
        assert_eq!(found("foo(bar, baz)", "x = foo(bar, baz);"), ["foo(bar, baz)"]);
        assert_eq!(found("snake_case x", "my_snake_case x"), ["snake_case x"]);
    }

    #[test]
    fn words_are_whole() {
        assert!(found("man walk", "old man walked").is_empty());
        assert!(found("t go", "don't go").is_empty());
        assert!(found("5 apples", "1.5 apples").is_empty());
        assert_eq!(found("a a", "aa a a a"), ["a a"]);
        assert_eq!(found("ab ab", "xab ab ab"), ["ab ab"]);
    }

    #[test]
    fn scripts_without_spaces_match_within_runs() {
        assert_eq!(found("不能忘却", "苦于不能忘却，不能忘却的"), ["不能忘却", "不能忘却"]);
        assert_eq!(found("５月A组", "３５月a组"), [""; 0]);
    }

    #[test]
    fn terms_select_windows() {
        let terms = |phrase: Phrase| phrase.terms().iter().map(|term| term.text.clone()).collect::<Vec<_>>();
        assert_eq!(terms(Phrase::words("the Old man's TermKey")), ["the", "old", "man", "termkey"]);
        assert_eq!(terms(Phrase::words("说，三月")), ["说", "三", "三月", "月"]);
        assert_eq!(terms(Phrase::exact("ked into the roo")), ["into", "the"]);
        assert_eq!(terms(Phrase::exact("x字符")), ["字", "字符", "符"]);
        assert!(terms(Phrase::exact("HashMap::new")).is_empty());
    }

    #[test]
    fn exact_phrases_match_bytes() {
        assert_eq!(Phrase::exact("ked i").find_in("Walked in, asked\ni, asked it"), [3..8, 22..27]);
        assert!(Phrase::exact("Ked").find_in("ked").is_empty());
    }

    proptest! {
        #[test]
        fn a_phrase_at_word_borders_is_found(
            words in prop::collection::vec("[a-zA-ZäÄ]{1,5}|字[一二]{1,3}", 1..20),
            from in 0..20usize,
            len in 1..9usize,
        ) {
            let text = words.join(" ");
            let from = from % words.len();
            let phrase = words[from..(from + len).min(words.len())].join("  ");
            let start = words[..from].iter().map(|word| word.len() + 1).sum::<usize>();
            let found = Phrase::words(&phrase).find_in(&text);
            let covers = |range: &Range<usize>| range.start <= start && start < range.end;
            prop_assert!(found.iter().any(covers), "{phrase:?} at {start} is not in {found:?}");
        }

        #[test]
        fn ranges_are_at_character_boundaries(phrase in "\\PC{0,3}", text in "\\PC{0,100}") {
            for range in Phrase::words(&phrase).find_in(&text) {
                prop_assert!(!text[range].is_empty());
            }
        }
    }
}
