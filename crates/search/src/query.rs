//! Queries.

use std::ops::Range;

use thiserror::Error;

use crate::analyzer::{QueryTerm, analyze};
use crate::phrase::Phrase;

/// Longest query in bytes.
const BYTES_MAX: usize = 4 << 10;

/// Error of parsing a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QueryError {
    /// The query is empty or white space.
    #[error("the query is empty: give words to search for")]
    Empty,
    /// The query is too long.
    #[error("the query has {bytes} bytes: at most {max} are allowed")]
    TooLong {
        /// Bytes given.
        bytes: usize,
        /// Most bytes allowed.
        max: usize,
    },
    /// The query has no term under which a text can be found.
    #[error("the query contains no word: give at least one word, number or character of a language")]
    NoTerm,
    /// A phrase has no term that selects windows.
    #[error(
        "a phrase contains no whole word: give a word between spaces or brackets, or a character of Chinese, Japanese, \
         Korean or Thai"
    )]
    NoTermInPhrase,
}

/// Query: terms that rank windows, and phrases that must occur.
///
/// Common words are terms like all others. BM25 gives them little weight, so they do not disturb a query that contains
/// rarer words, and a query of nothing but common words finds the windows in which they are densest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    terms: Vec<QueryTerm>,
    typed: Vec<String>,
    phrases: Vec<Phrase>,
}

impl Query {
    /// Parses words and `"quoted phrases"`. A quote without a partner is ignored.
    ///
    /// # Errors
    ///
    /// Fails if `text` is empty, longer than 4 KiB or contains no term, only punctuation.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let mut query = Self::new(text)?;
        let parts: Vec<&str> = text.split(['"', '“', '”']).collect();
        let last = parts.len() - 1;
        for (index, part) in parts.into_iter().enumerate() {
            let is_quoted = index % 2 == 1 && index < last;
            if is_quoted && !part.trim().is_empty() {
                query.phrases.push(Phrase::words(part));
            }
        }
        query.checked()
    }

    /// Returns the query for texts that contain exactly `text`, which may begin and end within words.
    ///
    /// # Errors
    ///
    /// Fails as [`Query::parse`] does, and if no word of `text` is certainly whole.
    pub fn exact(text: &str) -> Result<Self, QueryError> {
        let mut query = Self::new(text)?;
        let phrase = Phrase::exact(text);
        query.retain(|term| phrase.terms().iter().any(|whole| whole == term));
        query.phrases.push(phrase);
        query.checked()
    }

    /// Returns the distinct terms in their normal form.
    pub fn terms(&self) -> &[QueryTerm] {
        &self.terms
    }

    /// Returns the words of the query to which the terms belong, as they were typed.
    pub fn typed_terms(&self) -> &[String] {
        &self.typed
    }

    /// Returns the phrases. Each must occur in a window, or in it and the next one together.
    pub fn phrases(&self) -> &[Phrase] {
        &self.phrases
    }

    /// Returns the byte ranges of all phrases in a decoded text, in order. Returns `None` if one does not occur. The
    /// text of a hit is that of its window and, if [`Hit::next`](crate::Hit::next) is set, that of the next one.
    pub fn find_phrases(&self, text: &str) -> Option<Vec<Range<usize>>> {
        let mut found = Vec::new();
        for phrase in &self.phrases {
            let ranges = phrase.find_in(text);
            if ranges.is_empty() {
                return None;
            }
            found.extend(ranges);
        }
        found.sort_by_key(|range| (range.start, range.end));
        Some(found)
    }

    fn new(text: &str) -> Result<Self, QueryError> {
        if text.len() > BYTES_MAX {
            return Err(QueryError::TooLong { bytes: text.len(), max: BYTES_MAX });
        }
        if text.trim().is_empty() {
            return Err(QueryError::Empty);
        }
        let mut query = Self { terms: Vec::new(), typed: Vec::new(), phrases: Vec::new() };
        analyze(text, |term| {
            if !query.terms.iter().any(|known| known.text == term.text) {
                query.terms.push(QueryTerm::from(&term));
                query.typed.push(text[term.bytes].to_owned());
            }
        });
        if query.terms.is_empty() { Err(QueryError::NoTerm) } else { Ok(query) }
    }

    fn retain(&mut self, is_wanted: impl Fn(&QueryTerm) -> bool) {
        let mut wanted = self.terms.iter().map(is_wanted).collect::<Vec<_>>().into_iter();
        self.typed.retain({
            let mut wanted = wanted.clone();
            move |_| wanted.next() == Some(true)
        });
        self.terms.retain(|_| wanted.next() == Some(true));
    }

    fn checked(self) -> Result<Self, QueryError> {
        let is_complete = self.phrases.iter().all(|phrase| !phrase.terms().is_empty());
        if is_complete { Ok(self) } else { Err(QueryError::NoTermInPhrase) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(terms: &[QueryTerm]) -> Vec<&str> {
        terms.iter().map(|term| term.text.as_str()).collect()
    }

    #[test]
    fn words_and_phrases_become_terms() {
        let query = Query::parse("Ships \"the Old lamp\" ships “呐喊” don't").unwrap();
        assert_eq!(texts(query.terms()), ["ship", "the", "old", "lamp", "呐", "呐喊", "喊", "don't"]);
        assert_eq!(query.typed_terms(), ["Ships", "the", "Old", "lamp", "呐", "呐喊", "喊", "don't"]);
        assert_eq!(query.phrases(), [Phrase::words("the old lamp"), Phrase::words("呐喊")]);
        assert!(Query::parse("5\" disk").unwrap().phrases().is_empty());
        assert!(Query::parse("ship \"\" lamp").unwrap().phrases().is_empty());
    }

    #[test]
    fn what_cannot_be_found_is_refused() {
        assert_eq!(Query::parse(""), Err(QueryError::Empty));
        assert_eq!(Query::parse(" \n\u{3000}"), Err(QueryError::Empty));
        assert_eq!(Query::parse("?! — … 🙂"), Err(QueryError::NoTerm));
        assert_eq!(Query::parse("ship \"?\""), Err(QueryError::NoTermInPhrase));
        assert_eq!(Query::exact("ncode_win"), Err(QueryError::NoTermInPhrase));
        assert_eq!(Query::exact("half word"), Err(QueryError::NoTermInPhrase));
        let long = "a ".repeat(1 << 19);
        assert_eq!(Query::parse(&long), Err(QueryError::TooLong { bytes: 1 << 20, max: 4096 }));
    }

    #[test]
    fn common_words_alone_are_a_query() {
        assert_eq!(texts(Query::parse("to be or not to be").unwrap().terms()), ["to", "be", "or", "not"]);
    }

    #[test]
    fn exact_queries_rank_by_whole_words() {
        let query = Query::exact("ked into the roo").unwrap();
        assert_eq!(texts(query.terms()), ["into", "the"]);
        assert_eq!(query.typed_terms(), ["into", "the"]);
        let text = "walked into the room, linked into the room";
        assert_eq!(query.find_phrases(text), Some(vec![3..19, 25..41]));
        assert_eq!(query.find_phrases("into the room"), None);
    }

    #[test]
    fn all_phrases_must_occur() {
        let query = Query::parse("\"old lamp\" \"red door\"").unwrap();
        assert_eq!(query.find_phrases("A red door and an old lamp."), Some(vec![2..10, 18..26]));
        assert_eq!(query.find_phrases("A red door and an old lantern."), None);
    }
}
