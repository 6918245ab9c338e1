//! Search, and reindexing.

use std::collections::BTreeMap;
use std::ops::Range;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use c3_routing::RequestClass;
use c3_types::{Invalid, Labels, ReindexJob, SearchHit, SearchMode, SearchPage, SearchQuery};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::documents::{Filter, RefPath};
use super::model::ProblemBody;
use super::reply::{Json, Path, Reply, Tenant};
use crate::search::find::find;
use crate::search::reindex::{Reindexed, reindex};
use crate::search::reindex_job;

/// A search.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchBody {
    /// Words, with `"quoted phrases"`; at most 4 KiB.
    #[schema(min_length = 1, example = "soft as water")]
    query: String,
    /// If true, windows must contain exactly the text of the query, which may begin and end within words.
    #[serde(default)]
    exact: bool,
    /// Only these documents: ids, unique prefixes of ids, or @NAMEs; at most 1000. Empty: all.
    #[serde(default)]
    documents: Vec<String>,
    /// Only documents with all of these labels.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Only documents with a name that begins so.
    #[schema(min_length = 1)]
    name_prefix: Option<String>,
    /// Namespace of the name; default: `default`. Without `name_prefix`, any name of the namespace.
    #[schema(min_length = 1, max_length = 72)]
    namespace: Option<String>,
    /// First hexadecimal digits of the id.
    #[schema(pattern = "^[0-9a-fA-F]{1,64}$")]
    id_prefix: Option<String>,
    /// Only documents created at this time or later.
    #[schema(format = DateTime)]
    created_from: Option<String>,
    /// Only documents created before this time.
    #[schema(format = DateTime)]
    created_before: Option<String>,
    /// Maximum hits of the page; default: 10.
    #[schema(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before. The search must be the same.
    #[schema(min_length = 1)]
    cursor: Option<String>,
    /// Maximum bytes of each snippet; default: 0, no snippets.
    #[serde(default)]
    #[schema(maximum = 16384)]
    snippet_bytes: u32,
}

/// A page of hits.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct SearchPageBody {
    /// Windows that match, the best first.
    hits: Vec<SearchHitBody>,
    /// Cursor of the next page; null: there are no more hits.
    next_cursor: Option<String>,
    /// True if some documents could not be found: the gateway has not read all of them yet, or its index is full.
    partial: bool,
}

/// A window that matches. A window is a part of a document that is decoded as a unit.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct SearchHitBody {
    /// Id of the document.
    #[schema(example = "75107657738c7ef7a4f3a217addcdf03ce2074467c02f70b6451b743e4406629")]
    document: String,
    /// Index of the window in the document, from 0.
    #[schema(example = 2)]
    window: u64,
    /// Range of the window's text in the document.
    bytes: SpanBody,
    /// BM25 score.
    #[schema(example = 7.25)]
    score: f32,
    /// Words of the query that the window contains. A few may be wrong, since the store has only hashes of words.
    terms: Vec<String>,
    /// Occurrences of phrases, or of the exact text. One may end in the next window.
    matches: Vec<SpanBody>,
    /// Part of the text that shows the match; null if none was requested.
    snippet: Option<SnippetBody>,
}

/// Range of bytes from the start of a document; the end is exclusive.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct SpanBody {
    start: u64,
    end: u64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
struct SnippetBody {
    /// Offset of the text in the document, in bytes.
    start: u64,
    text: String,
}

/// Result of a reindexing.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ReindexedBody {
    id: String,
    /// Number of windows that search did not find before.
    windows: u64,
}

/// The running reindex job, or the last one.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ReindexJobBody {
    /// `idle`: no job was started since the gateway started. `running`. `waiting`: decoders have other work, none is
    /// ready, the quota is used up, or the store is unavailable. `ended`.
    #[schema(example = "running")]
    state: &'static str,
    /// Documents that were stored when the job started; 0 while they are listed.
    documents: u64,
    /// Documents that search did not find before.
    reindexed: u64,
    /// Documents that search found already, and those that were stored without verification, deleted or replaced.
    skipped: u64,
    /// Documents that could not be reindexed. Another job tries them again.
    failed: u64,
    /// Number of windows that search did not find before.
    windows: u64,
    /// Problem of the last document that failed, or was skipped although search does not find it; null: there is none.
    last_problem: Option<String>,
}

impl From<ReindexJob> for ReindexJobBody {
    fn from(job: ReindexJob) -> Self {
        let ReindexJob { state, documents, reindexed, skipped, failed, windows, last_problem } = job;
        Self { state: state.as_str(), documents, reindexed, skipped, failed, windows, last_problem }
    }
}

impl SearchBody {
    fn into_query(self) -> Result<SearchQuery, Invalid> {
        let filter = Filter {
            id_prefix: self.id_prefix.as_deref(),
            name_prefix: self.name_prefix.as_deref(),
            namespace: self.namespace.as_deref(),
            labels: Labels::new(self.labels)?,
            created_from: self.created_from.as_deref(),
            created_before: self.created_before.as_deref(),
        };
        let filter = filter.query()?;
        if self.limit == Some(0) {
            return Err(Invalid::new("limit", "must be from 1 to 100"));
        }
        Ok(SearchQuery {
            text: self.query,
            mode: if self.exact { SearchMode::Exact } else { SearchMode::Words },
            documents: self.documents,
            filter,
            limit: self.limit.unwrap_or_default(),
            cursor: self.cursor,
            snippet_bytes: self.snippet_bytes,
        })
    }
}

impl From<Range<u64>> for SpanBody {
    fn from(range: Range<u64>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

impl From<SearchHit> for SearchHitBody {
    fn from(hit: SearchHit) -> Self {
        Self {
            document: hit.document.to_string(),
            window: hit.window,
            bytes: hit.bytes.into(),
            score: hit.score,
            terms: hit.terms,
            matches: hit.matches.into_iter().map(SpanBody::from).collect(),
            snippet: hit.snippet.map(|snippet| SnippetBody { start: snippet.bytes.start, text: snippet.text }),
        }
    }
}

impl From<SearchPage> for SearchPageBody {
    fn from(page: SearchPage) -> Self {
        let hits = page.hits.into_iter().map(SearchHitBody::from).collect();
        Self { hits, next_cursor: page.next_cursor, partial: page.partial }
    }
}

/// Searches for windows by their words.
///
/// Ranks windows of all documents by BM25. Words match in all forms with the same stem. Quoted phrases must occur; they
/// and snippets are read from the decoded text. A document is found soon after it was stored, by other gateways within
/// half a minute.
#[utoipa::path(
    post, operation_id = "search", path = "/v1/search", tag = "search", request_body(content = SearchBody),
    responses(
        (status = 200, description = "A page of hits", body = SearchPageBody),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn search(Tenant(gateway): Tenant, Json(body): Json<SearchBody>) -> Reply {
    gateway.admit(RequestClass::Read)?;
    let page = find(gateway, body.into_query()?).await?;
    Ok(Json(SearchPageBody::from(page)).into_response())
}

/// Lets search find a document.
///
/// For a document that was stored by an earlier version, or with search turned off. Decodes it, and adds sketches of its
/// words. Latents and corrections stay as they are.
#[utoipa::path(
    post, operation_id = "reindex", path = "/v1/documents/{ref}/reindex", tag = "search", params(RefPath),
    responses(
        (status = 200, description = "The number of windows that search did not find before", body = ReindexedBody),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn reindex_document(Tenant(gateway): Tenant, Path(reference): Path<String>) -> Reply {
    let Reindexed { id, windows } = reindex(gateway, reference).await?;
    Ok(Json(ReindexedBody { id: id.to_string(), windows }).into_response())
}

/// Lets search find all documents.
///
/// Starts a job that reindexes them in the background, whenever the decoders have nothing else to do. If it runs
/// already, changes nothing. The job continues until it ends or the gateway stops; a later job skips the documents that
/// are done. It belongs to the gateway that was called.
#[utoipa::path(
    post, operation_id = "start_reindex", path = "/v1/reindex", tag = "search",
    responses(
        (status = 202, description = "The state of the job", body = ReindexJobBody),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn start_reindex(Tenant(gateway): Tenant) -> Reply {
    let job = reindex_job::start(&gateway)?;
    Ok((StatusCode::ACCEPTED, Json(ReindexJobBody::from(job))).into_response())
}

/// Returns the state of the running or last reindex job of this gateway.
#[utoipa::path(
    get, operation_id = "get_reindex", path = "/v1/reindex", tag = "search",
    responses(
        (status = 200, description = "The state of the job", body = ReindexJobBody),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get_reindex(Tenant(gateway): Tenant) -> Reply {
    Ok(Json(ReindexJobBody::from(gateway.reindex.job())).into_response())
}
