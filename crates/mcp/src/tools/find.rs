//! `find`: searches documents by words, or lists them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use c3_client::{Document, Labels, ListQuery, Listed, NameFilter, SearchMode, SearchQuery};
use c3_types::CreatedRange;
use futures::{StreamExt, TryStreamExt, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Output;
use crate::call::{Call, handle, namespace};
use crate::error::Error;

pub(super) const ABOUT: &str = "Find stored text by its words (\"quoted phrases\" must occur), or without a query list \
    documents, newest first. Words match in all forms with the same stem, not by meaning. Then recall a hit's range.";

/// Default and maximum of `limit`.
const HITS: [u32; 2] = [5, 50];
/// Size of a snippet.
const SNIPPET_BYTES: u32 = 240;
/// Documents that are read to list the newest ones.
const LISTED_MAX: usize = 5000;
/// Documents that are described at once.
const STATS_IN_FLIGHT: usize = 8;

/// Query and filters.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    /// Words to search for
    query: Option<String>,
    /// Take the query as exact text
    exact: Option<bool>,
    /// Only in these handles or @names
    documents: Option<Vec<String>>,
    /// Only with these labels
    labels: Option<BTreeMap<String, String>>,
    /// Only with a name that begins so
    name: Option<String>,
    /// Namespace of the name
    namespace: Option<String>,
    /// Only stored at this time or later, such as 2026-01-31T12:00:00Z
    created_from: Option<String>,
    /// Only stored before this time
    created_before: Option<String>,
    /// Maximum hits; default 5
    limit: Option<u32>,
    /// `next_cursor` of the result before
    cursor: Option<String>,
}

/// Hits.
#[derive(Serialize, JsonSchema)]
pub(super) struct Found {
    hits: Vec<Hit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    /// True: some documents could not be looked at yet; repeat in a moment
    partial: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// A document, or a range of its bytes.
#[derive(Serialize, JsonSchema)]
struct Hit {
    handle: String,
    id: String,
    start: u64,
    end: u64,
    size: u64,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    snippet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

impl Args {
    fn filter(&self) -> Result<ListQuery, Error> {
        let names = match (&self.name, &self.namespace) {
            (None, None) => None,
            (name, space) => {
                let prefix = name.as_deref().unwrap_or_default().trim_start_matches('@').to_owned();
                Some(NameFilter { namespace: namespace(space.as_deref())?, prefix })
            }
        };
        let created = CreatedRange {
            from_unix_ms: unix_ms("created_from", self.created_from.as_deref())?,
            before_unix_ms: unix_ms("created_before", self.created_before.as_deref())?,
        };
        let labels = Labels::new(self.labels.clone().unwrap_or_default())?;
        Ok(ListQuery { labels, names, created, ..ListQuery::default() })
    }
}

pub(super) async fn find(call: &Call<'_>, args: Args) -> Result<Output, Error> {
    let limit = args.limit.unwrap_or(HITS[0]);
    if limit == 0 || limit > HITS[1] {
        return Err(Error::argument(format!("argument `limit`: must be from 1 to {}", HITS[1])));
    }
    let filter = args.filter()?;
    match args.query.as_deref().filter(|query| !query.trim().is_empty()) {
        Some(query) => {
            let mode = if args.exact == Some(true) { SearchMode::Exact } else { SearchMode::Words };
            let documents = args.documents.clone().unwrap_or_default();
            let (text, cursor) = (query.to_owned(), args.cursor.clone());
            let query = SearchQuery { text, mode, documents, filter, limit, cursor, snippet_bytes: SNIPPET_BYTES };
            search(call, &query).await
        }
        None if args.documents.is_some() || args.cursor.is_some() || args.exact.is_some() => {
            Err(Error::argument("argument `query`: is needed with documents, exact or cursor"))
        }
        None => newest(call, &filter, limit as usize).await,
    }
}

async fn search(call: &Call<'_>, query: &SearchQuery) -> Result<Output, Error> {
    let page = call.client.search(query).await?;
    // Collected first, because a stream over borrowed hits would not be `Send`.
    let hits = Vec::from_iter(page.hits.into_iter().map(|hit| async move {
        let described = call.client.stat(&hit.document.to_string()).await;
        // Deleted in this moment.
        let Ok(document) = described else { return None };
        let found = hit.matches.first().cloned();
        let bytes = found.map_or(hit.bytes.clone(), |found| hit.bytes.start..hit.bytes.end.max(found.end));
        let snippet = hit.snippet.map(|snippet| snippet.text);
        Some(Hit {
            start: bytes.start,
            end: bytes.end,
            snippet,
            score: Some((f64::from(hit.score) * 100.0).round() / 100.0),
            ..Hit::of(document)
        })
    }));
    let hits: Vec<Option<Hit>> = stream::iter(hits).buffered(STATS_IN_FLIGHT).collect().await;
    let hits = Vec::from_iter(hits.into_iter().flatten());
    let note = hits.is_empty().then(|| "Nothing found: try fewer or other words.".to_owned());
    Output::new(&Found { hits, next_cursor: page.next_cursor, partial: page.partial, note })
}

/// Lists the newest documents that match a filter.
async fn newest(call: &Call<'_>, filter: &ListQuery, limit: usize) -> Result<Output, Error> {
    let mut listed = call.client.list_where(filter).take(LISTED_MAX + 1);
    let (mut documents, mut read) = (Vec::new(), 0);
    while let Some(next) = listed.try_next().await? {
        read += 1;
        if let Listed::Document(document) = next {
            documents.push(*document);
        }
    }
    documents.sort_by_key(|document| Reverse(document.created_unix_ms));
    let total = documents.len();
    documents.truncate(limit);
    let hits = Vec::from_iter(documents.into_iter().map(Hit::of));
    let note = (total > limit)
        .then(|| format!("{limit} of {total} documents: narrow with labels, name or created_from, or raise limit."));
    Output::new(&Found { hits, next_cursor: None, partial: read > LISTED_MAX, note })
}

impl Hit {
    fn of(document: Document) -> Self {
        let created = UNIX_EPOCH + Duration::from_millis(document.created_unix_ms);
        Self {
            handle: handle(&document),
            id: document.id.to_string(),
            start: 0,
            end: document.bytes,
            size: document.bytes,
            created: humantime::format_rfc3339_seconds(created).to_string(),
            snippet: None,
            score: None,
            labels: document.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            names: document.names,
        }
    }
}

fn unix_ms(argument: &str, time: Option<&str>) -> Result<Option<u64>, Error> {
    let Some(time) = time else { return Ok(None) };
    let parsed = humantime::parse_rfc3339_weak(time).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    match parsed {
        Some(since) => Ok(u64::try_from(since.as_millis()).ok()),
        None => Err(Error::argument(format!("argument `{argument}`: write the time as 2026-01-31T12:00:00Z"))),
    }
}
