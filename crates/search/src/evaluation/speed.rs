//! Speed and memory with many windows.

use std::time::{Duration, Instant};

use c3_types::DocumentId;

use super::{Question, Source};
use crate::{Index, IndexError, IndexedWindow, Query, QueryError, Search, Sketch, TermKey};

/// Windows of each document that is made.
const DOCUMENT_WINDOWS: usize = 8;

/// Measured values.
#[derive(Clone, Debug)]
pub struct Speed {
    /// Bytes of text sketched in a second by one core.
    pub sketched_bytes_per_second: f64,
    /// Mean size of a sketch in bytes.
    pub sketch_bytes: f64,
    /// Time to decode all sketches and add them to an empty index.
    pub rebuild: Duration,
    /// Memory of the index in bytes.
    pub memory_bytes: usize,
    /// Time of each search for ten hits, sorted.
    pub searches: Vec<Duration>,
}

impl Speed {
    /// Returns the time that a share of searches did not exceed, for example 0.99 of them.
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.searches.len().saturating_sub(1);
        self.searches.get((share * last as f64).round() as usize).copied().unwrap_or_default()
    }
}

/// Errors of [`speed`].
#[derive(Debug, thiserror::Error)]
pub enum SpeedError {
    /// The index took more than a gibibyte.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A question is not a query.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// Makes `count` windows from those of `sources`, indexes them and asks all questions.
///
/// A window that is made consists of the halves of two real ones and of ten words that occur nowhere else, because the
/// vocabulary of real texts grows with their length.
///
/// # Errors
///
/// Fails if a question is not a query, or if the index takes more than a gibibyte.
///
/// # Panics
///
/// Panics if `sources` have no windows.
pub fn speed(sources: &[Source], questions: &[Question], count: usize, key: &TermKey) -> Result<Speed, SpeedError> {
    let texts = made_texts(sources, count);
    let begun = Instant::now();
    let sketches: Vec<Vec<u8>> = texts.iter().map(|text| Sketch::of_text(text, 350, key).encode()).collect();
    let sketching = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let index = Index::new(key.clone(), 1 << 30);
    for (number, sketches) in sketches.chunks(DOCUMENT_WINDOWS).enumerate() {
        let sketches = sketches.iter().map(|bytes| Sketch::decode(bytes).expect("encoded sketches are valid"));
        let windows = sketches.zip(0..).map(|(sketch, at)| IndexedWindow { bytes: at * 2400..(at + 1) * 2400, sketch });
        index.insert(DocumentId::of(&number.to_le_bytes()), windows.collect())?;
    }
    let rebuild = begun.elapsed();
    let mut searches = Vec::with_capacity(questions.len());
    for question in questions {
        let query = Query::parse(&question.text)?;
        let begun = Instant::now();
        let hits = index.search(&Search::new(&query));
        searches.push(begun.elapsed());
        std::hint::black_box(hits);
    }
    searches.sort_unstable();
    Ok(Speed {
        sketched_bytes_per_second: texts.iter().map(String::len).sum::<usize>() as f64 / sketching,
        sketch_bytes: sketches.iter().map(Vec::len).sum::<usize>() as f64 / count as f64,
        rebuild,
        memory_bytes: index.memory_bytes(),
        searches,
    })
}

fn made_texts(sources: &[Source], count: usize) -> Vec<String> {
    let real: Vec<&str> =
        sources.iter().flat_map(|source| source.windows.iter().map(|window| &source.text[window.clone()])).collect();
    let made = |number: usize| {
        // A stride without a common divisor pairs each window with different ones.
        let (first, second) = (real[number % real.len()], real[(number * 7919 + number / real.len()) % real.len()]);
        let (end, start) = (first.floor_char_boundary(first.len() / 2), second.ceil_char_boundary(second.len() / 2));
        let words: String = (0..10).map(|word| format!(" w{number}x{word}")).collect();
        format!("{}{words} {}", &first[..end], &second[start..])
    };
    (0..count).map(made).collect()
}
