//! Search over documents: queries and their results, and reindex jobs.

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

/// Reindex job of a tenant: adds sketches to all documents that lack them, in the background. Counts are those of the
/// running job, or of the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReindexJob {
    /// State of the job.
    pub state: ReindexState,
    /// Documents that were stored when the job started; 0 while they are listed.
    pub documents: u64,
    /// Documents that got sketches.
    pub reindexed: u64,
    /// Documents that search found already, and those that were stored without verification, deleted or replaced.
    pub skipped: u64,
    /// Documents that could not be reindexed. Another job tries them again.
    pub failed: u64,
    /// Windows that got a sketch.
    pub windows: u64,
    /// Problem of the last document that failed, or was skipped although search does not find it.
    pub last_problem: Option<String>,
}

/// State of a reindex job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReindexState {
    /// No job was started since the gateway started.
    #[default]
    Idle,
    /// The job examines or decodes documents.
    Running,
    /// The job waits: decoders have other work, none is ready, the quota is used up, or the store is unavailable.
    Waiting,
    /// The job has examined every document.
    Ended,
}

impl ReindexJob {
    /// Returns whether the job has not ended.
    pub fn is_active(&self) -> bool {
        matches!(self.state, ReindexState::Running | ReindexState::Waiting)
    }

    /// Returns the number of documents that the job is done with.
    pub fn done(&self) -> u64 {
        self.reindexed + self.skipped + self.failed
    }
}

impl ReindexState {
    /// Returns the name of the state.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Ended => "ended",
        }
    }
}
