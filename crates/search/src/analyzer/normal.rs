//! Normal forms of terms.

use rust_stemmers::{Algorithm, Stemmer};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::TERM_BYTES_MAX;

/// Computes normal forms. Reuses one buffer.
pub(super) struct Normalizer {
    stemmer: Stemmer,
    form: String,
}

impl Normalizer {
    pub(super) fn new() -> Self {
        Self { stemmer: Stemmer::create(Algorithm::English), form: String::new() }
    }

    /// Returns `text` in lower case, as NFKC, without the diacritics of Latin letters and without commas, and at most
    /// [`TERM_BYTES_MAX`] long.
    pub(super) fn form(&mut self, text: &str) -> &str {
        self.form.clear();
        let text = prefix(text, 4 * TERM_BYTES_MAX);
        if text.is_ascii() {
            self.form
                .extend(text.bytes().filter(|&byte| byte != b',').map(|byte| char::from(byte.to_ascii_lowercase())));
        } else if text.chars().all(is_normal) {
            self.form.push_str(text);
        } else {
            let mut base = ' ';
            let folded = text.chars().flat_map(char::to_lowercase).nfkd().filter(|&c| {
                let is_mark = is_combining_mark(c);
                if !is_mark {
                    base = c;
                }
                !(is_mark && base.is_ascii_alphabetic())
            });
            // The decomposition of some letters has capitals.
            self.form.extend(folded.nfc().flat_map(char::to_lowercase).map(|c| if c == '’' { '\'' } else { c }));
        }
        let end = prefix(&self.form, TERM_BYTES_MAX).len();
        self.form.truncate(end);
        &self.form
    }

    /// Returns the stem of the normal form of a word. Words in other scripts than Latin are not stemmed.
    pub(super) fn stem(&mut self, word: &str) -> &str {
        self.form(word);
        if self.form.len() > 2 && self.form.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'\'') {
            let stem = self.stemmer.stem(&self.form).into_owned();
            if !stem.is_empty() {
                self.form = stem;
            }
        }
        &self.form
    }
}

/// Returns whether `c` is its own normal form: the commonest Han characters, kana and syllables of Hangul.
fn is_normal(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3041}'..='\u{3093}' | '\u{30a1}'..='\u{30f3}' | '\u{ac00}'..='\u{d7a3}')
}

/// Returns the longest prefix of at most `max` bytes that ends at a character boundary.
fn prefix(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
