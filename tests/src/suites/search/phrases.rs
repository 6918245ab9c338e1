//! Random phrases of stored texts are found at their exact places.

use std::fs;
use std::ops::Range;

use anyhow::{Context, Result};
use c3_proto::pb;

use super::{search, wait_until_found};
use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures::{self, middle};
use crate::harness::gateway_api::GatewayApi;
use crate::harness::quantity::Quantity;
use crate::suites::store::ops::Rng;

/// Phrases that are searched for.
const PHRASES: usize = 200;
/// Bytes of each text.
const TEXT_BYTES: usize = 60_000;

/// A stored text, and the borders between its windows.
pub(super) struct StoredText {
    pub(super) id: String,
    pub(super) text: String,
    borders: Vec<usize>,
}

impl StoredText {
    fn crosses_border(&self, range: &Range<usize>) -> bool {
        self.borders.iter().any(|border| range.start < *border && *border < range.end)
    }
}

/// Stores prose, Chinese and code, and searches for phrases of them.
pub(super) async fn phrases() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let texts = store_texts(&api).await?;
    let mut rng = Rng::new(7);
    let (mut missed, mut across) = (Vec::new(), 0);
    for number in 0..PHRASES {
        let stored = &texts[number % texts.len()];
        let at_border = number % 3 == 0;
        let range = phrase(stored, &mut rng, at_border);
        across += usize::from(stored.crosses_border(&range));
        if !finds(&api, stored, &range).await? {
            missed.push(stored.text[range].to_owned());
        }
    }
    Ok(vec![
        Quantity::equal("phrases-missed", missed, Vec::new()),
        Quantity::at_least("phrases-across-borders", across as f64, 30.0),
    ])
}

/// Stores a text of each kind and waits until all are found.
pub(super) async fn store_texts(api: &GatewayApi) -> Result<Vec<StoredText>> {
    let folder = fixtures::root();
    let chinese = fs::read_to_string(folder.join("tests/fixtures/search/call-to-arms.txt"))?;
    let prose = fs::read_to_string(folder.join("tests/fixtures/search/dickens-and-music.txt"))?;
    let code = fs::read_to_string(folder.join("gateway/src/ingest/shard.rs"))?;
    let mut texts = Vec::new();
    for text in [&prose, &chinese, &code] {
        let text = middle(text, TEXT_BYTES).to_owned();
        let stored = api.put(text.as_bytes(), pb::WriteOptions::default()).await?;
        let id = stored.document.context("a put returns a document")?.hex_id;
        let borders = api.windows(&id).await?.iter().map(|window| window.end as usize).collect();
        texts.push(StoredText { id, text, borders });
    }
    wait_until_found(api, &Vec::from_iter(texts.iter().map(|text| text.id.clone()))).await?;
    Ok(texts)
}

/// Returns whether a search for the phrase returns its range in the document.
pub(super) async fn finds(api: &GatewayApi, stored: &StoredText, range: &Range<usize>) -> Result<bool> {
    let query = format!("\"{}\"", &stored.text[range.clone()]);
    let mut request = pb::SearchRequest { query, limit: 100, ..Default::default() };
    loop {
        let page = search(api, request.clone()).await?;
        let expected = pb::ByteSpan { start: range.start as u64, end: range.end as u64 };
        if page.hits.iter().any(|hit| hit.hex_document == stored.id && hit.matches.contains(&expected)) {
            return Ok(true);
        }
        if page.next_cursor.is_empty() {
            return Ok(false);
        }
        request.cursor = page.next_cursor;
    }
}

/// Returns a random phrase without quotes: 3 to 6 words, or 4 to 10 characters of Chinese.
pub(super) fn phrase(stored: &StoredText, rng: &mut Rng, at_border: bool) -> Range<usize> {
    let text = &stored.text;
    loop {
        let near = match at_border {
            true => stored.borders[rng.below(stored.borders.len())].saturating_sub(rng.below(40)),
            false => rng.below(text.len()),
        };
        let start = text.floor_char_boundary(near.min(text.len() - 1));
        let is_chinese = text[start..].chars().next().is_some_and(is_chinese);
        let range =
            if is_chinese { characters(text, start, 4 + rng.below(7)) } else { words(text, start, 3 + rng.below(4)) };
        if let Some(range) = range
            && (!at_border || stored.crosses_border(&range))
        {
            return range;
        }
    }
}

fn is_chinese(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}

fn characters(text: &str, start: usize, count: usize) -> Option<Range<usize>> {
    let characters = Vec::from_iter(text[start..].chars().take(count));
    let bytes = characters.iter().map(|c| c.len_utf8()).sum::<usize>();
    (characters.len() == count && characters.iter().all(|c| is_chinese(*c))).then_some(start..start + bytes)
}

/// Returns whole words that follow `start`, and what is between them.
fn words(text: &str, start: usize, count: usize) -> Option<Range<usize>> {
    let is_word = |c: char| c.is_ascii_alphanumeric();
    let mut ranges = Vec::new();
    let mut word: Option<usize> = None;
    for (at, c) in text[start..].char_indices() {
        match (word, is_word(c)) {
            (None, true) => word = Some(at),
            (Some(first), false) => {
                ranges.push(start + first..start + at);
                word = None;
                if ranges.len() > count {
                    break;
                }
            }
            _ => {}
        }
    }
    // The first word may be cut.
    let (first, last) = (ranges.get(1)?, ranges.get(count)?);
    let range = first.start..last.end;
    let phrase = &text[range.clone()];
    let ends = [text[..range.start].chars().next_back(), text[range.end..].chars().next()];
    let is_whole = ends.iter().flatten().all(|c| c.is_whitespace() || "()[]{};,".contains(*c));
    (is_whole && phrase.is_ascii() && !phrase.contains('"') && phrase.len() < 200).then_some(range)
}
