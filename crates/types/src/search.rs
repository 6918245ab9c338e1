//! Search over documents: queries and their results.

use std::ops::Range;

use serde::Serialize;

use crate::{DocumentId, ListQuery};

/// Search for windows. A *window* is a part of a document that is decoded as a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchQuery {
    /// Words, with `"quoted phrases"`; or the text that windows must contain.
    pub text: String,
    /// Meaning of `text`.
    pub mode: SearchMode,
    /// Only these documents: ids, unique prefixes of ids, or names with `@`. Empty: all.
    pub documents: Vec<String>,
    /// Only documents that this query would list. Its page is ignored.
    pub filter: ListQuery,
    /// Maximum number of hits; 0: the gateway's default.
    pub limit: u32,
    /// [`SearchPage::next_cursor`] of the page before; `None`: the first page.
    pub cursor: Option<String>,
    /// Maximum bytes of each snippet; 0: no snippets.
    pub snippet_bytes: u32,
}

/// Meaning of the text of a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchMode {
    /// Words rank windows. Quoted phrases must occur: as whole words, in any case, with any white space.
    #[default]
    Words,
    /// Windows must contain exactly this text, which may begin and end within words.
    Exact,
}

/// A page of hits, the best first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SearchPage {
    /// Hits by descending score.
    pub hits: Vec<SearchHit>,
    /// Cursor of the next page; `None`: there are no more hits.
    pub next_cursor: Option<String>,
    /// True if some documents could not be found: the gateway has not read all sketches yet, or its index is full.
    pub partial: bool,
}

/// A window that matches a query.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchHit {
    /// The document.
    pub document: DocumentId,
    /// Index of the window in the document, from 0.
    pub window: u64,
    /// Range of the window's text, in bytes from the start of the document.
    pub bytes: Range<u64>,
    /// BM25 score.
    pub score: f32,
    /// Words of the query that the window contains. A few may be wrong, unless there is a snippet.
    pub terms: Vec<String>,
    /// Ranges of the phrases, in bytes from the start of the document. Empty if the query has none. A range may end in
    /// the next window.
    pub matches: Vec<Range<u64>>,
    /// Part of the text that shows the match, if snippets were requested.
    pub snippet: Option<Snippet>,
}

/// A part of a document's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snippet {
    /// Range in bytes from the start of the document.
    pub bytes: Range<u64>,
    /// The text.
    pub text: String,
}
