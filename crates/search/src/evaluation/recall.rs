//! Recall of search over sketches, compared with BM25 over the text itself.

use std::collections::HashMap;
use std::ops::Range;

use c3_types::DocumentId;

use crate::analyzer::{TermKind, analyze};
use crate::{Index, IndexError, IndexedWindow, Query, QueryError, Search, Sketch, TermKey, WindowText};

/// Text whose windows are searched.
#[derive(Clone, Debug)]
pub struct Source {
    /// Text.
    pub text: String,
    /// Consecutive windows that cover the text.
    pub windows: Vec<Range<usize>>,
}

impl Source {
    /// Cuts a text into windows of at most `max_bytes` that end after a sentence or line, unless it is longer.
    pub fn new(text: String, max_bytes: usize) -> Self {
        let mut windows = Vec::new();
        let (mut start, mut last) = (0, 0);
        for end in sentence_ends(&text) {
            if end - start > max_bytes && last > start {
                windows.push(start..last);
                start = last;
            }
            last = end;
        }
        if start < text.len() {
            windows.push(start..text.len());
        }
        Self { text, windows }
    }

    /// Returns the sketches of the windows, each of at most `limit` bytes.
    pub fn sketches(&self, limit: usize, key: &TermKey) -> Vec<Sketch> {
        let windows: Vec<_> = self.windows.iter().map(|bytes| WindowText { bytes: bytes.clone(), limit }).collect();
        Sketch::of_windows(&self.text, &windows, key)
    }

    /// Returns the number of the window that contains the byte `at`.
    pub fn window_at(&self, at: usize) -> usize {
        self.windows.partition_point(|window| window.end <= at)
    }
}

fn sentence_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut characters = text.char_indices().peekable();
    while let Some((_, c)) = characters.next() {
        let is_full_stop = matches!(c, '.' | '!' | '?' | '。' | '！' | '？');
        while is_full_stop && characters.next_if(|(_, c)| matches!(c, '\'' | '"' | ')' | '_' | '”' | '’')).is_some()
        {
        }
        let next = characters.peek().map(|(_, c)| *c);
        let is_end = c == '\n' || is_full_stop && (!c.is_ascii() || next.is_none_or(char::is_whitespace));
        if is_end {
            characters.next_if(|(_, next)| c != '\n' && *next == ' ');
            ends.push(characters.peek().map_or(text.len(), |(at, _)| *at));
        }
    }
    ends.push(text.len());
    ends
}

/// Question whose answer stands in one of the sources.
#[derive(Clone, Debug)]
pub struct Question {
    /// Question as a person would type it.
    pub text: String,
    /// Index of the source.
    pub source: usize,
    /// Byte at which the answer begins.
    pub answer: usize,
}

/// Number of questions whose window was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// As the best hit.
    pub at_1: usize,
    /// Among the ten best hits.
    pub at_10: usize,
}

impl Found {
    fn add(&mut self, rank: Option<usize>) {
        self.at_1 += usize::from(rank == Some(0));
        self.at_10 += usize::from(rank.is_some_and(|rank| rank < 10));
    }
}

/// Returns how many questions BM25 over the text answers.
///
/// # Errors
///
/// Fails if a question is not a query.
pub fn found_by_text(sources: &[Source], questions: &[Question]) -> Result<Found, QueryError> {
    let ranking = TextRanking::new(sources);
    let mut found = Found::default();
    for question in questions {
        let window = (question.source, sources[question.source].window_at(question.answer));
        found.add(ranking.rank(&Query::parse(&question.text)?, window));
    }
    Ok(found)
}

/// Returns how many questions an index answers that contains the sources as documents.
///
/// # Errors
///
/// Fails if a question is not a query.
pub fn found_by_index(index: &Index, sources: &[Source], questions: &[Question]) -> Result<Found, QueryError> {
    let ids: Vec<_> = sources.iter().map(|source| DocumentId::of(source.text.as_bytes())).collect();
    let mut found = Found::default();
    for question in questions {
        let query = Query::parse(&question.text)?;
        let hits = index.search(&Search::new(&query));
        let window = sources[question.source].window_at(question.answer);
        found.add(hits.iter().position(|hit| hit.document == ids[question.source] && hit.window as usize == window));
    }
    Ok(found)
}

/// Returns an index of the sources as documents, whose ids are the hashes of their texts.
///
/// # Errors
///
/// Fails if the index would take more than a gibibyte.
pub fn index(sources: &[Source], limit: usize, key: &TermKey) -> Result<Index, IndexError> {
    let index = Index::new(key.clone(), 1 << 30);
    for source in sources {
        let windows = source.windows.iter().zip(source.sketches(limit, key));
        let windows =
            windows.map(|(bytes, sketch)| IndexedWindow { bytes: bytes.start as u64..bytes.end as u64, sketch });
        index.insert(DocumentId::of(source.text.as_bytes()), windows.collect())?;
    }
    Ok(index)
}

/// BM25 over the terms of all windows.
struct TextRanking {
    windows: Vec<((usize, usize), f64)>,
    mean_length: f64,
    postings: HashMap<String, HashMap<usize, f64>>,
}

impl TextRanking {
    fn new(sources: &[Source]) -> Self {
        let mut windows = Vec::new();
        let mut postings: HashMap<String, HashMap<usize, f64>> = HashMap::new();
        for (source, number) in sources.iter().zip(0..) {
            let first = windows.len();
            windows.extend((0..source.windows.len()).map(|window| ((number, window), 0.0)));
            analyze(&source.text, |term| {
                let window = first + source.window_at(term.bytes.start);
                windows[window].1 += f64::from(u8::from(term.kind.counts()));
                *postings.entry(term.text.to_owned()).or_default().entry(window).or_default() += 1.0;
            });
        }
        let mean_length = windows.iter().map(|(_, length)| length).sum::<f64>() / windows.len() as f64;
        Self { windows, mean_length, postings }
    }

    /// Returns the rank of a window, from 0, or `None` if it contains no term of the query.
    fn rank(&self, query: &Query, window: (usize, usize)) -> Option<usize> {
        let mut scores = vec![0.0; self.windows.len()];
        for term in query.terms() {
            let Some(postings) = self.postings.get(&term.text) else { continue };
            let factor = if term.kind == TermKind::Bigram { 0.5 } else { 1.0 };
            let with_term = postings.len() as f64;
            let weight = factor * f64::ln(1.0 + (self.windows.len() as f64 - with_term + 0.5) / (with_term + 0.5));
            for (&window, count) in postings {
                let relative = self.windows[window].1 / self.mean_length;
                scores[window] += weight * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * relative));
            }
        }
        let place = self.windows.iter().position(|(place, _)| *place == window)?;
        let better = scores
            .iter()
            .enumerate()
            .filter(|(index, score)| **score > scores[place] || **score == scores[place] && *index < place);
        (scores[place] > 0.0).then(|| better.count())
    }
}
