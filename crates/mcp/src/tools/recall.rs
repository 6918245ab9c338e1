//! `recall`: returns the exact text of a document, or a part of it.

use c3_client::{ByteRange, Document, LineRange, ListQuery, SearchMode, SearchQuery};
use futures::TryStreamExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Output;
use crate::call::{Call, handle};
use crate::error::Error;
use crate::text::{self, Part};

pub(super) const ABOUT: &str = "Get back the exact text of a stored document: all of it, a range of bytes or lines, or \
    the lines around a match. A long text is cut at max_tokens, and `next` says where the rest begins.";

/// Default of `max_tokens`.
const TOKENS_MAX: u32 = 8000;
/// Default of `context`, in lines.
const CONTEXT_LINES: u32 = 5;
/// Bytes that are read on each side of a match for each line of context, at least.
const LINE_BYTES: u64 = 200;
/// Maximum hits of a search.
const HITS_MAX: u32 = 100;

/// Document, and part of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    /// Handle, id, or @name
    handle: String,
    /// First byte; with `match`, where to begin looking
    start: Option<u64>,
    /// Byte after the last
    end: Option<u64>,
    /// First line, from 1
    first_line: Option<u64>,
    /// Last line
    last_line: Option<u64>,
    /// Exact text to look for
    #[serde(rename = "match")]
    matching: Option<String>,
    /// Lines on each side of the match; default 5
    context: Option<u32>,
    /// Budget of the result; default 8000
    max_tokens: Option<u32>,
}

/// The text.
#[derive(Default, Serialize, JsonSchema)]
pub(super) struct Recalled {
    handle: String,
    id: String,
    start: u64,
    end: u64,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    match_start: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
    text: String,
}

pub(super) async fn recall(call: &Call<'_>, args: Args) -> Result<Output, Error> {
    let has_lines = args.first_line.is_some() || args.last_line.is_some();
    if has_lines && (args.start.is_some() || args.end.is_some() || args.matching.is_some()) {
        return Err(Error::argument("give either lines, or bytes or a match"));
    }
    let document = call.document(&args.handle).await?;
    let bytes_max = match args.max_tokens.unwrap_or(TOKENS_MAX) {
        0 => return Err(Error::argument("argument `max_tokens`: must be at least 1")),
        tokens => text::bytes_of_tokens(&document, tokens),
    };
    let range = ByteRange::new(args.start, args.end)?.within(document.bytes)?;
    let (part, first_line, match_start) = match &args.matching {
        _ if has_lines => {
            let lines = LineRange::new(args.first_line.unwrap_or(1), args.last_line)?;
            (read_lines(call, &document, lines, bytes_max).await?, Some(lines.first()), None)
        }
        None => {
            let end = range.end.min(range.start.saturating_add(bytes_max));
            let mut part = text::read(call, &document, range.start..end).await?;
            if end < range.end {
                part.cut_at_line();
            }
            if part.text.is_empty() && !range.is_empty() {
                let problem = format!("bytes {}..{end} are within one character: ask for more", range.start);
                return Err(Error::argument(problem));
            }
            let first_line = (part.start == 0).then_some(1);
            (part, first_line, None)
        }
        Some(wanted) => {
            let context = args.context.unwrap_or(CONTEXT_LINES);
            let at = find(call, &document, wanted, range.start).await?;
            let end = at + wanted.len() as u64;
            if end > range.end {
                return Err(Error::NotFound(format!("the text first occurs at byte {at}, after `end`")));
            }
            (around(call, &document, at..end, context, bytes_max).await?, None, Some(at))
        }
    };
    let next = part.is_cut.then(|| part.end());
    let note = next.map(|next| format!("Cut at max_tokens. For the rest, call recall with start={next}."));
    let recalled = Recalled {
        handle: handle(&document),
        id: document.id.to_string(),
        start: part.start,
        end: part.end(),
        size: document.bytes,
        first_line,
        match_start,
        next,
        text: part.text,
    };
    Ok(Output::new(&recalled)?.with_text(recalled.text).with_note(note))
}

/// Reads lines. Only the windows that contain them are decoded.
async fn read_lines(call: &Call<'_>, document: &Document, lines: LineRange, bytes_max: u64) -> Result<Part, Error> {
    let id = document.id.to_string();
    let (range, lines_before) = call.client.locate_lines(&id, lines).await?;
    let mut pieces = call.client.get(&id, ByteRange::new(Some(range.start), Some(range.end))?).await?;
    let (mut line, mut offset, mut start, mut bytes) = (lines_before + 1, range.start, None, Vec::new());
    let mut is_at_line_start = true;
    'text: while let Some(piece) = pieces.try_next().await? {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if line >= lines.first() {
                start.get_or_insert(offset);
                bytes.extend_from_slice(part);
            }
            offset += part.len() as u64;
            is_at_line_start = part.ends_with(b"\n");
            line += u64::from(is_at_line_start);
            if lines.last().is_some_and(|last| line > last) || bytes.len() as u64 > bytes_max {
                break 'text;
            }
        }
    }
    let Some(start) = start else {
        // A text that ends with a line feed has no line after it.
        let count = line - u64::from(is_at_line_start);
        return Err(Error::argument(format!("the document has {count} lines: ask for lines in 1..={count}")));
    };
    // Only a cut can end within a character.
    bytes.truncate(text::complete(&bytes));
    let text = text::utf8(bytes)?;
    let mut part = Part { start, text, is_cut: false };
    part.cut(bytes_max);
    Ok(part)
}

/// Returns the offset of the first occurrence of `wanted` at or after `start`. The search index finds it without
/// decoding the whole document, but does not know documents that were stored without search or a moment ago.
async fn find(call: &Call<'_>, document: &Document, wanted: &str, start: u64) -> Result<u64, Error> {
    if wanted.is_empty() {
        return Err(Error::argument("argument `match`: must not be empty"));
    }
    let query = SearchQuery {
        text: wanted.to_owned(),
        mode: SearchMode::Exact,
        documents: vec![document.id.to_string()],
        filter: ListQuery::default(),
        limit: HITS_MAX,
        cursor: None,
        snippet_bytes: 0,
    };
    // The index refuses a text without a whole word; it can still occur.
    if let Ok(page) = call.client.search(&query).await
        && page.next_cursor.is_none()
    {
        let matches = page.hits.iter().flat_map(|hit| &hit.matches).map(|range| range.start);
        if let Some(first) = matches.filter(|at| *at >= start).min() {
            return Ok(first);
        }
    }
    let range = ByteRange::new(Some(start), None)?;
    let mut pieces = call.client.get(&document.id.to_string(), range).await?;
    let (mut tail, mut offset) = (Vec::new(), start);
    while let Some(piece) = pieces.try_next().await? {
        tail.extend_from_slice(&piece);
        if let Some(at) = tail.windows(wanted.len()).position(|window| window == wanted.as_bytes()) {
            return Ok(offset + at as u64);
        }
        let done = tail.len().saturating_sub(wanted.len() - 1);
        tail.drain(..done);
        offset += done as u64;
    }
    let place = if start == 0 { "in the document".to_owned() } else { format!("after byte {start}") };
    Err(Error::NotFound(format!(
        "the text does not occur {place}: check its spelling, or call `find` with fewer words"
    )))
}

/// Reads a match and the lines around it. The lines of a small budget are the ones that begin nearest to the match.
async fn around(
    call: &Call<'_>,
    document: &Document,
    found: std::ops::Range<u64>,
    context: u32,
    bytes_max: u64,
) -> Result<Part, Error> {
    let side = (u64::from(context) + 1).saturating_mul(LINE_BYTES).min(bytes_max / 2);
    let end = found.end.saturating_add(side).min(document.bytes);
    let mut part = text::read(call, document, found.start.saturating_sub(side)..end).await?;
    let (before, after) = ((found.start - part.start) as usize, (found.end - part.start) as usize);
    let context = context as usize;
    let first = part.text[..before].match_indices('\n').rev().nth(context).map_or(0, |(at, _)| at + 1);
    let last = part.text[after..].match_indices('\n').nth(context).map_or(part.text.len(), |(at, _)| after + at + 1);
    part.text = part.text[first..last].to_owned();
    part.start += first as u64;
    part.cut(bytes_max);
    Ok(part)
}
