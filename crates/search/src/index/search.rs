//! Search over a snapshot of the index.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use c3_types::DocumentId;

use super::block::Block;
use super::document::IndexedDocument;
use super::segment::Segment;
use super::tail::TailDocument;
use crate::analyzer::TermKind;
use crate::key::{Probe, TermId, TermKey};
use crate::query::Query;

/// Saturation of counts in BM25.
const K1: f32 = 1.2;

/// Influence of a window's length in BM25.
const B: f32 = 0.75;

/// Weight of a bigram beside that of its characters, which are terms too. Measured with the questions of
/// `tests/fixtures/search`.
const PAIR_WEIGHT: f32 = 0.5;

/// Count that each level stands for.
const LEVEL_COUNTS: [f32; 4] = [1.0, 2.0, 3.4, 6.5];

/// Terms of phrases that select windows. A phrase with more is verified on the text like all others.
const PHRASE_TERMS_MAX: usize = 64;

/// Search to carry out.
pub struct Search<'a> {
    /// Query.
    pub query: &'a Query,
    /// Returns whether hits in a document are wanted.
    pub filter: &'a dyn Fn(&DocumentId) -> bool,
    /// Maximum number of hits.
    pub limit: usize,
    /// Position of the last hit of the page before. If documents were added or removed since then, all scores differ:
    /// the page begins after the place that this hit has now. Hits that change places may be repeated or left out.
    pub after: Option<Position>,
}

impl<'a> Search<'a> {
    /// Returns a search for the ten best hits in all documents.
    pub fn new(query: &'a Query) -> Self {
        Self { query, filter: &|_| true, limit: 10, after: None }
    }
}

/// Place of a hit in the order of hits: descending score, then ascending document and window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Score of the hit.
    pub score: f32,
    /// Document of the hit.
    pub document: DocumentId,
    /// Number of the window in the document.
    pub window: u32,
}

impl Eq for Position {}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = other.score.total_cmp(&self.score);
        by_score.then_with(|| self.document.cmp(&other.document)).then(self.window.cmp(&other.window))
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Window that probably answers a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Document of the window.
    pub document: DocumentId,
    /// Number of the window in the document.
    pub window: u32,
    /// Byte range of the window in the document.
    pub bytes: Range<u64>,
    /// BM25 score.
    pub score: f32,
    /// Indexes in [`Query::terms`] of the terms that the window seems to contain.
    pub terms: Vec<usize>,
    /// Byte range of the next window, if a phrase may begin in this window and end in the next one: look for phrases in
    /// the joined text of both. `None` if the query has no phrases.
    pub next: Option<Range<u64>>,
}

impl Hit {
    /// Returns the position from which a search continues behind this hit.
    pub fn position(&self) -> Position {
        Position { score: self.score, document: self.document, window: self.window }
    }
}

/// Documents of the index at one moment.
pub(super) struct Snapshot {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) tail: Vec<Arc<TailDocument>>,
    pub(super) windows: u64,
    pub(super) length: u64,
}

impl Snapshot {
    pub(super) fn search(&self, key: &TermKey, search: &Search<'_>) -> Vec<Hit> {
        let terms = search.query.terms();
        let probes: Vec<Probe> = terms.iter().map(|term| key.probe(term)).collect();
        let phrases = Phrases::new(search.query, key);
        let segments = self.segments.iter().map(|segment| &**segment as &dyn Block);
        let blocks: Vec<&dyn Block> =
            segments.chain(self.tail.iter().map(|document| &**document as &dyn Block)).collect();
        let matches: Vec<Vec<Matches>> =
            blocks.iter().map(|block| probes.iter().map(|probe| matches(*block, *probe)).collect()).collect();
        let weight = |index: usize| {
            let weight = self.weight(matches.iter().map(|block| block[index].len()).sum());
            if terms[index].kind == TermKind::Bigram { PAIR_WEIGHT * weight } else { weight }
        };
        let weights: Vec<f32> = (0..terms.len()).map(weight).collect();
        let mean_length = self.length as f32 / self.windows.max(1) as f32;
        let each_with_matches = blocks.iter().zip(&matches);
        let scores: Vec<Vec<f32>> =
            each_with_matches.map(|(block, matches)| scores(*block, matches, &weights, mean_length)).collect();
        let after = search.after.map(|after| current(after, &blocks, &scores));
        let search = &Search { after, ..*search };
        let mut best = BinaryHeap::new();
        for (index, (block, scores)) in blocks.iter().zip(&scores).enumerate() {
            let candidates = phrases.candidates(*block);
            collect(*block, index, (scores, candidates.as_deref()), search, &mut best);
        }
        let found = best.into_sorted_vec();
        let mut hits: Vec<_> = found.iter().map(|found| found.hit(blocks[found.block])).collect();
        add_terms(&found, &matches, &mut hits);
        // Documents may have been removed meanwhile.
        let mut is_live = found.iter().map(|found| !found.document(blocks[found.block]).is_removed());
        hits.retain(|_| is_live.next() == Some(true));
        hits
    }

    /// Returns the inverse document frequency of a term that is in `count` windows, which is positive.
    fn weight(&self, count: usize) -> f32 {
        let with_term = count as f32;
        let without = (self.windows as f32 - with_term).max(0.0);
        (1.0 + (without + 0.5) / (with_term + 0.5)).ln()
    }
}

/// Windows of a block with a term, and the levels of its counts.
type Matches = Vec<(u32, u8)>;

fn matches(block: &dyn Block, probe: Probe) -> Matches {
    let mut matches = Vec::new();
    match probe {
        Probe::One(id) => block.for_each(id, &mut |window, level| matches.push((window, level))),
        Probe::Pair { pair, characters } => {
            let mut found = vec![0u8; block.entries().len()];
            for (bit, id) in characters.into_iter().enumerate() {
                block.for_each(id, &mut |window, _| found[window as usize] |= 1 << bit);
            }
            block.for_each(pair, &mut |window, level| {
                if found[window as usize] == 3 {
                    matches.push((window, level));
                }
            });
        }
    }
    matches
}

/// Adds to each hit the indexes of its terms.
fn add_terms(found: &[Found], matches: &[Vec<Matches>], hits: &mut [Hit]) {
    let places: HashMap<(usize, u32), usize> =
        found.iter().enumerate().map(|(place, found)| ((found.block, found.entry), place)).collect();
    let blocks: HashSet<usize> = found.iter().map(|found| found.block).collect();
    for block in blocks {
        for (index, matches) in matches[block].iter().enumerate() {
            for (window, _) in matches {
                if let Some(&place) = places.get(&(block, *window)) {
                    hits[place].terms.push(index);
                }
            }
        }
    }
}

/// Returns the score of each window of a block.
fn scores(block: &dyn Block, matches: &[Matches], weights: &[f32], mean_length: f32) -> Vec<f32> {
    let windows = block.entries();
    let mut scores = vec![0.0; windows.len()];
    for (matches, weight) in matches.iter().zip(weights) {
        for &(window, level) in matches {
            let window = window as usize;
            let count = LEVEL_COUNTS[usize::from(level)];
            let relative = windows[window].length as f32 / mean_length.max(1.0);
            scores[window] += weight * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * relative));
        }
    }
    scores
}

/// Returns the position that a hit of an earlier search has now; the earlier one if its window is gone.
fn current(hit: Position, blocks: &[&dyn Block], scores: &[Vec<f32>]) -> Position {
    for (block, scores) in blocks.iter().zip(scores) {
        for (entry, (&score, window)) in scores.iter().zip(block.entries()).enumerate() {
            let number = entry as u32 - block.first_window(window.document);
            let document = block.document(window.document);
            if number == hit.window && *document.id() == hit.document && !document.is_removed() {
                return Position { score, ..hit };
            }
        }
    }
    hit
}

/// Adds the windows of a block that belong to the best ones.
fn collect(
    block: &dyn Block,
    index: usize,
    (scores, candidates): (&[f32], Option<&[Candidate]>),
    search: &Search<'_>,
    best: &mut BinaryHeap<Found>,
) {
    let mut last: Option<(u32, bool)> = None;
    for (entry, (&score, window)) in scores.iter().zip(block.entries()).enumerate() {
        let candidate = candidates.map_or(Candidate::Inside, |candidates| candidates[entry]);
        if score <= 0.0 || candidate == Candidate::No || search.limit == 0 {
            continue;
        }
        let document = block.document(window.document);
        let number = entry as u32 - block.first_window(window.document);
        let position = Position { score, document: *document.id(), window: number };
        let is_after = search.after.as_ref().is_none_or(|after| position > *after);
        let is_full = best.len() == search.limit;
        if !is_after || is_full && best.peek().is_some_and(|worst| worst.position < position) {
            continue;
        }
        let is_wanted = match last {
            Some((document, is_wanted)) if document == window.document => is_wanted,
            _ => !document.is_removed() && (search.filter)(document.id()),
        };
        last = Some((window.document, is_wanted));
        if is_wanted {
            if is_full {
                best.pop();
            }
            best.push(Found { position, block: index, entry: entry as u32, candidate });
        }
    }
}

/// Hit before its details are known. The greatest one in a heap is the worst hit.
#[derive(PartialEq, Eq)]
struct Found {
    position: Position,
    block: usize,
    entry: u32,
    candidate: Candidate,
}

impl Found {
    fn document<'a>(&self, block: &'a dyn Block) -> &'a IndexedDocument {
        block.document(block.entries()[self.entry as usize].document)
    }

    fn hit(&self, block: &dyn Block) -> Hit {
        let Position { score, document, window } = self.position;
        let entries = block.entries();
        let next = entries.get(self.entry as usize + 1).filter(|_| self.candidate == Candidate::Across);
        let bytes = entries[self.entry as usize].bytes();
        Hit { document, window, bytes, score, terms: Vec::new(), next: next.map(|next| next.bytes()) }
    }
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        self.position.cmp(&other.position)
    }
}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Result of the test of a window for the phrases of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    /// A phrase is certainly not there.
    No,
    /// The window contains the terms of each phrase. None continues in the next window.
    Inside,
    /// The window contains the first terms of a phrase and the next one the others.
    Across,
}

/// Phrases of a query, as terms in order.
struct Phrases {
    /// Distinct terms. The bits of a mask correspond to them.
    terms: Vec<TermId>,
    /// Indexes of each phrase's terms.
    phrases: Vec<Vec<usize>>,
}

impl Phrases {
    fn new(query: &Query, key: &TermKey) -> Self {
        let mut terms = Vec::new();
        let mut phrases = Vec::new();
        for phrase in query.phrases() {
            let mut indexes = Vec::new();
            for id in phrase.terms().iter().map(|term| key.id(&term.text, term.kind)) {
                let known = terms.iter().position(|term| *term == id);
                if known.is_none() && terms.len() < PHRASE_TERMS_MAX {
                    terms.push(id);
                }
                match known.or((terms.last() == Some(&id)).then(|| terms.len() - 1)) {
                    Some(index) => indexes.push(index),
                    // The beginning of a phrase selects windows well enough.
                    None => break,
                }
            }
            phrases.push(indexes);
        }
        Self { terms, phrases }
    }

    /// Returns for each window whether it may contain all phrases. Returns `None` if there are no phrases.
    fn candidates(&self, block: &dyn Block) -> Option<Vec<Candidate>> {
        if self.phrases.is_empty() {
            return None;
        }
        let entries = block.entries();
        let mut masks = vec![0u64; entries.len()];
        for (bit, term) in self.terms.iter().enumerate() {
            block.for_each(*term, &mut |window, _| masks[window as usize] |= 1 << bit);
        }
        let candidate = |index: usize| {
            let entry = &entries[index];
            let next = entries.get(index + 1).filter(|next| next.document == entry.document);
            let next = next.map(|_| masks[index + 1]);
            let found = self.phrases.iter().map(|phrase| occurs(phrase, masks[index], next, entry.is_open));
            found.reduce(|all, one| match (all, one) {
                (Candidate::No, _) | (_, Candidate::No) => Candidate::No,
                (Candidate::Inside, Candidate::Inside) => Candidate::Inside,
                _ => Candidate::Across,
            })
        };
        Some((0..entries.len()).map(|index| candidate(index).unwrap_or(Candidate::No)).collect())
    }
}

/// Returns whether a phrase may begin in the window with the terms `mask`. `next` are the terms of the next window, if
/// there is one.
///
/// A term is in the window in which it begins. So a phrase across a border is divided into terms of the first window
/// and terms of the second one. At the border of a shard, whose text was analysed alone, a term may be cut in two: then
/// it is in neither window.
fn occurs(phrase: &[usize], mask: u64, next: Option<u64>, is_open: bool) -> Candidate {
    let contains = |mask: u64, term: &usize| mask >> term & 1 == 1;
    let first = phrase.iter().take_while(|term| contains(mask, term)).count();
    if let Some(next) = next {
        let rest = phrase.iter().rev().take_while(|term| contains(next, term)).count();
        let is_divided = first > 0 && rest > 0 && first + rest >= phrase.len();
        if is_divided || is_open && first + rest + 1 >= phrase.len() {
            return Candidate::Across;
        }
    }
    if first == phrase.len() { Candidate::Inside } else { Candidate::No }
}
