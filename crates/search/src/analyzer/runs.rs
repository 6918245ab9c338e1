//! Runs: the longest sequences of characters that form one word, or one text without spaces.

use std::ops::Range;

use unicode_normalization::char::is_combining_mark;

/// Way in which the characters of a run are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// Words stand between spaces: the run is a word.
    Spaced,
    /// There are no spaces between words, or, in Korean, words carry particles: the run is divided into bigrams.
    Continuous,
}

/// Run of characters of one kind.
#[derive(Debug)]
pub(crate) struct Run {
    /// Byte range in the text.
    pub(crate) bytes: Range<usize>,
    /// Kind of its characters.
    pub(crate) script: Script,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Spaced,
    Continuous,
    /// Belongs to the character before it.
    Mark,
    Other,
}

fn class(c: char) -> Class {
    match c {
        '\0'..='\x7f' if c.is_ascii_alphanumeric() => Class::Spaced,
        '\0'..='\x7f' => Class::Other,
        '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => Class::Continuous,
        // Joiners of Indic scripts, and voicing marks of half-width kana.
        '\u{200c}' | '\u{200d}' | '\u{ff9e}' | '\u{ff9f}' => Class::Mark,
        _ if is_combining_mark(c) => Class::Mark,
        _ if is_continuous(c) => Class::Continuous,
        _ if c.is_alphanumeric() => Class::Spaced,
        _ => Class::Other,
    }
}

/// Returns whether `c` is a letter of a script without spaces between words, or of Korean. The marks of these scripts
/// and the two commonest blocks are not asked for.
fn is_continuous(c: char) -> bool {
    matches!(c,
        // Thai, Lao, Burmese, Khmer.
        '\u{e01}'..='\u{e4e}' | '\u{e81}'..='\u{ece}' | '\u{edc}'..='\u{edf}'
        | '\u{1000}'..='\u{103f}' | '\u{1050}'..='\u{108f}' | '\u{1780}'..='\u{17d3}'
        // Kana, Bopomofo, parts of Hangul.
        | '\u{3041}'..='\u{309f}' | '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{312f}' | '\u{31f0}'..='\u{31ff}'
        | '\u{ff66}'..='\u{ff9d}' | '\u{1100}'..='\u{11ff}' | '\u{3131}'..='\u{318e}'
        // Han.
        | '\u{3005}'..='\u{3007}' | '\u{3400}'..='\u{4dbf}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}'
    )
}

/// Returns the runs of `text`, in order. They do not overlap.
pub(crate) fn runs(text: &str) -> impl Iterator<Item = Run> {
    let mut at = 0;
    std::iter::from_fn(move || {
        for c in text[at..].chars() {
            let start = at;
            at += c.len_utf8();
            let script = match class(c) {
                Class::Spaced => Script::Spaced,
                Class::Continuous => Script::Continuous,
                Class::Mark | Class::Other => continue,
            };
            at = match script {
                Script::Spaced => word_end(text, start),
                Script::Continuous => end_of(text, at, Class::Continuous),
            };
            return Some(Run { bytes: start..at, script });
        }
        None
    })
}

/// Returns the end of the characters of class `of`, with their marks, that begin at `at`.
fn end_of(text: &str, at: usize, of: Class) -> usize {
    let is_other = |&(_, c): &(usize, char)| !matches!(class(c), class if class == of || class == Class::Mark);
    text[at..].char_indices().find(is_other).map_or(text.len(), |(index, _)| at + index)
}

/// Returns the end of the word that begins at `start`. An apostrophe between letters does not end it, and neither does
/// a decimal point or a comma before thousands in a number.
fn word_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let mut is_number = true;
    let mut at = start;
    loop {
        let end = end_of(text, at, Class::Spaced);
        is_number &= bytes[at..end].iter().all(u8::is_ascii_digit);
        let Some(joint) = text[end..].chars().next() else { return end };
        let next = end + joint.len_utf8();
        let is_digit = |index: usize| bytes.get(index).is_some_and(u8::is_ascii_digit);
        let joins = match joint {
            '.' => is_number && is_digit(next),
            ',' => is_number && (next..next + 3).all(is_digit) && !is_digit(next + 3),
            '\'' | '’' => !is_number && text[next..].chars().next().is_some_and(|c| class(c) == Class::Spaced),
            _ => false,
        };
        if !joins {
            return end;
        }
        at = next;
    }
}

/// Returns the units of a run of continuous script: characters with their marks.
pub(super) fn units(text: &str, bytes: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut at = bytes.start;
    std::iter::from_fn(move || {
        let rest = &text[at..bytes.end];
        let first = rest.chars().next()?;
        let is_base = |&(_, c): &(usize, char)| class(c) != Class::Mark;
        let marks = &rest[first.len_utf8()..];
        let end = marks.char_indices().find(is_base).map_or(marks.len(), |(index, _)| index);
        let start = at;
        at += first.len_utf8() + end;
        Some(start..at)
    })
}
