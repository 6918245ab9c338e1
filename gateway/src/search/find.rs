//! Answers a search. The index selects windows; the rest comes from their text.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use c3_search::{Hit, Position, Query, Search, snippet};
use c3_types::{DocumentId, Invalid, ListQuery, SearchHit, SearchMode, SearchPage, SearchQuery, Snippet};
use futures::{StreamExt, TryStreamExt, stream};

use crate::cursor::Cursor;
use crate::error::Error;
use crate::read::document::{OpenDocument, positions};
use crate::spawn::spawn;
use crate::state::SharedGateway;

/// Default number of hits of a page.
const HITS_DEFAULT: u32 = 10;
/// Maximum number of hits of a page.
const HITS_MAX: u32 = 100;
/// Maximum bytes of a snippet.
const SNIPPET_BYTES_MAX: u32 = 16 << 10;
/// Maximum number of documents that a search may name.
const DOCUMENTS_MAX: usize = 1000;
/// Maximum number of windows that a search for phrases decodes for a page. If they do not suffice, the page has fewer
/// hits, and a cursor.
const DECODED_MAX: usize = 512;

/// Maximum bytes of a character in UTF-8.
const CHARACTER_BYTES_MAX: u64 = 4;

/// A checked search.
struct Plan {
    query: Query,
    /// Documents that may be found; `None`: all.
    wanted: Option<HashSet<DocumentId>>,
    limit: usize,
    after: Option<Position>,
    snippet_bytes: usize,
}

/// Returns a page of hits.
pub(crate) async fn find(gateway: SharedGateway, search: SearchQuery) -> Result<SearchPage, Error> {
    if !gateway.search.is_on() {
        return Err(Error::Unsupported("search is turned off on this gateway: set --search-memory".to_owned()));
    }
    let cursor = cursor(&search);
    let partial = gateway.search.begin_search();
    let mut plan = plan(&gateway, search, &cursor).await?;
    let (mut hits, mut decoded) = (Vec::new(), 0);
    let has_phrases = !plan.query.phrases().is_empty();
    let next = loop {
        let wanted = plan.limit - hits.len();
        // A phrase may be absent from a window that has its words.
        let count = if has_phrases { (2 * wanted).min(DECODED_MAX - decoded) } else { wanted };
        let (candidates, next) = candidates(&gateway, &mut plan, count).await?;
        decoded += if has_phrases { candidates.len() } else { 0 };
        let plan = &plan;
        let found = stream::iter(candidates).map(|hit| {
            let (gateway, position) = (Arc::clone(&gateway), hit.position());
            async move { Ok::<_, Error>((position, hit_of(gateway, plan, hit).await?)) }
        });
        let mut found = found.buffered(count.max(1));
        let mut last = None;
        while hits.len() < plan.limit
            && let Some((position, hit)) = found.try_next().await?
        {
            last = Some(position);
            hits.extend(hit);
        }
        if hits.len() >= plan.limit || next.is_none() || decoded >= DECODED_MAX {
            let has_more = next.is_some() || found.next().await.is_some();
            break last.filter(|_| has_more);
        }
    };
    Ok(SearchPage { hits, next_cursor: next.map(|position| cursor.cursor(&Encoded(position).to_string())), partial })
}

/// Returns the cursors of the pages of a search.
fn cursor(search: &SearchQuery) -> Cursor {
    let filter = ListQuery { after: None, page_size: 0, ..search.filter.clone() };
    Cursor::of_listing("search", &(&search.text, search.mode, &search.documents, filter))
}

async fn plan(gateway: &SharedGateway, search: SearchQuery, cursor: &Cursor) -> Result<Plan, Error> {
    let parse = match search.mode {
        SearchMode::Words => Query::parse,
        SearchMode::Exact => Query::exact,
    };
    let query = parse(&search.text).map_err(|error| Invalid::new("query", error.to_string()))?;
    if search.limit > HITS_MAX {
        return Err(Invalid::new("limit", format!("must be at most {HITS_MAX}")).into());
    }
    if search.snippet_bytes > SNIPPET_BYTES_MAX {
        return Err(Invalid::new("snippet_bytes", format!("must be at most {SNIPPET_BYTES_MAX}")).into());
    }
    let after = search.cursor.as_deref().map(|given| {
        let position = cursor.position(given)?;
        Encoded::parse(&position).ok_or_else(|| cursor.malformed())
    });
    let after = after.transpose()?;
    let limit = if search.limit == 0 { HITS_DEFAULT } else { search.limit } as usize;
    let wanted = wanted(gateway, &search).await?;
    Ok(Plan { query, wanted, limit, after, snippet_bytes: search.snippet_bytes as usize })
}

/// Returns the documents that a search may find; `None`: all.
async fn wanted(gateway: &SharedGateway, search: &SearchQuery) -> Result<Option<HashSet<DocumentId>>, Error> {
    if search.documents.len() > DOCUMENTS_MAX {
        return Err(Invalid::new("documents", format!("may name at most {DOCUMENTS_MAX} documents")).into());
    }
    let filter = ListQuery { after: None, page_size: 0, ..search.filter.clone() };
    let filtered = match filter == ListQuery::default() {
        true => None,
        false => Some(gateway.all_ids(filter).await?),
    };
    if search.documents.is_empty() {
        return Ok(filtered);
    }
    let mut named = HashSet::new();
    for reference in &search.documents {
        named.insert(gateway.find(reference).await?.value.id);
    }
    Ok(Some(match filtered {
        Some(filtered) => &named & &filtered,
        None => named,
    }))
}

/// Returns the next windows that the index selects, and the position of the last one if there may be more.
async fn candidates(
    gateway: &SharedGateway,
    plan: &mut Plan,
    count: usize,
) -> Result<(Vec<Hit>, Option<Position>), Error> {
    let index = gateway.search.index(&gateway.store).await?;
    let (query, wanted, after) = (plan.query.clone(), plan.wanted.clone(), plan.after);
    // Takes milliseconds for millions of windows.
    let searched = tokio::task::spawn_blocking(move || {
        let filter = |id: &DocumentId| wanted.as_ref().is_none_or(|wanted| wanted.contains(id));
        // One more shows whether there is another page.
        index.search(&Search { query: &query, filter: &filter, limit: count + 1, after })
    });
    let mut hits = searched.await.map_err(|_| Error::panicked())?;
    let has_more = hits.len() > count;
    hits.truncate(count);
    plan.after = hits.last().map(Hit::position).or(plan.after);
    Ok((hits, plan.after.filter(|_| has_more)))
}

/// Returns the hit with what comes from its text. Returns `None` if the document was deleted or has expired, or if a
/// phrase does not occur.
async fn hit_of(gateway: SharedGateway, plan: &Plan, hit: Hit) -> Result<Option<SearchHit>, Error> {
    let open = match OpenDocument::open(Arc::clone(&gateway), &hit.document.to_string()).await {
        Ok(open) => open,
        Err(Error::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Another version of the document has the same text, but perhaps other windows.
    let Some(window) = positions(open.manifest()).find(|position| position.bytes.end > hit.bytes.start) else {
        return Ok(None);
    };
    let terms = hit.terms.iter().map(|&term| plan.query.typed_terms()[term].clone());
    let mut found = SearchHit {
        document: hit.document,
        window: window.index,
        bytes: hit.bytes.clone(),
        score: hit.score,
        terms: terms.collect(),
        matches: Vec::new(),
        snippet: None,
    };
    if plan.query.phrases().is_empty() && plan.snippet_bytes == 0 {
        return Ok(Some(found));
    }
    let end = hit.next.as_ref().map_or(hit.bytes.end, |next| next.end);
    let range = hit.bytes.start..end;
    let (start, text) = match spawn(async move { text_of(&open, range).await }).await {
        Ok(text) => text,
        Err(Error::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let in_document = |range: Range<usize>| start + range.start as u64..start + range.end as u64;
    let Some(mut phrases) = plan.query.find_phrases(&text) else { return Ok(None) };
    // Phrases that begin in the next window are hits of that window.
    phrases.retain(|range| start + (range.start as u64) < hit.bytes.end);
    if phrases.is_empty() && !plan.query.phrases().is_empty() {
        return Ok(None);
    }
    if plan.snippet_bytes > 0 {
        let part = snippet(&text, &plan.query, plan.snippet_bytes);
        found.snippet = Some(Snippet { bytes: in_document(part.clone()), text: text[part].to_owned() });
    }
    found.matches = phrases.into_iter().map(in_document).collect();
    Ok(Some(found))
}

/// Returns the characters that begin in a range of a document, and the offset of the first one. A window may begin and
/// end within a character.
async fn text_of(open: &OpenDocument, range: Range<u64>) -> Result<(u64, String), Error> {
    let mut text = read(open, range.clone()).await?;
    let last = text.iter().rposition(|byte| !is_continuation(*byte)).unwrap_or_default();
    if std::str::from_utf8(&text[last..]).is_err() {
        let end = open.manifest().bytes().min(range.end + CHARACTER_BYTES_MAX - 1);
        let next = read(open, range.end..end).await?;
        text.extend(next.into_iter().take_while(|byte| is_continuation(*byte)));
    }
    let before = text.iter().take_while(|byte| is_continuation(**byte)).count();
    let text = String::from_utf8(text.split_off(before));
    let text = text.map_err(|_| Error::DataLoss("a window of the search index is not UTF-8".to_owned()))?;
    Ok((range.start + before as u64, text))
}

async fn read(open: &OpenDocument, range: Range<u64>) -> Result<Vec<u8>, Error> {
    let pieces = open.text(range).map_ok(|piece| piece.text);
    Ok(pieces.try_collect::<Vec<_>>().await?.concat())
}

/// Returns whether a byte is part of a character, but not its first byte.
fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// A position as text.
struct Encoded(Position);

impl fmt::Display for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { score, document, window } = &self.0;
        write!(f, "{:08x}-{document}-{window:x}", score.to_bits())
    }
}

impl Encoded {
    fn parse(text: &str) -> Option<Position> {
        let [score, document, window] = *text.split('-').collect::<Vec<_>>() else { return None };
        let hex = |digits| u32::from_str_radix(digits, 16).ok();
        let score = f32::from_bits(hex(score)?);
        Some(Position { score, document: document.parse().ok()?, window: hex(window)? }).filter(|_| score.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_encoding() {
        let position = Position { score: 7.25, document: DocumentId::of(b"text"), window: 300 };
        assert_eq!(Encoded::parse(&Encoded(position).to_string()), Some(position));
        for malformed in ["", "1-2-3", "7fc00000-0-0", &format!("zz-{}-1", position.document)] {
            assert_eq!(Encoded::parse(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn a_cursor_belongs_to_its_search() {
        let search = SearchQuery { text: "lamp".to_owned(), ..SearchQuery::default() };
        let other = SearchQuery { mode: SearchMode::Exact, ..search.clone() };
        let longer = SearchQuery { limit: 50, snippet_bytes: 100, ..search.clone() };
        let given = cursor(&search).cursor("x");
        assert!(cursor(&longer).position(&given).is_ok());
        assert!(cursor(&other).position(&given).is_err());
    }
}
