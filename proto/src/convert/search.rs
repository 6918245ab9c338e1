//! Searches and their results, and reindex jobs.

use c3_types::{
    DocumentId, Invalid, ListQuery, ReindexJob, ReindexState, SearchHit, SearchMode, SearchPage, SearchQuery, Snippet,
};

use super::{FromWire, ToWire};
use crate::pb;

impl FromWire<pb::SearchRequest> for SearchQuery {
    fn from_wire(wire: pb::SearchRequest) -> Result<Self, Invalid> {
        Ok(Self {
            text: wire.query,
            mode: if wire.exact { SearchMode::Exact } else { SearchMode::Words },
            documents: wire.documents,
            filter: ListQuery::from_wire(wire.filter.unwrap_or_default())?,
            limit: wire.limit,
            cursor: Some(wire.cursor).filter(|cursor| !cursor.is_empty()),
            snippet_bytes: wire.snippet_bytes,
        })
    }
}

impl ToWire for SearchQuery {
    type Wire = pb::SearchRequest;

    fn to_wire(&self) -> pb::SearchRequest {
        pb::SearchRequest {
            query: self.text.clone(),
            exact: self.mode == SearchMode::Exact,
            documents: self.documents.clone(),
            filter: Some(self.filter.to_wire()),
            limit: self.limit,
            cursor: self.cursor.clone().unwrap_or_default(),
            snippet_bytes: self.snippet_bytes,
        }
    }
}

impl FromWire<pb::SearchResponse> for SearchPage {
    fn from_wire(wire: pb::SearchResponse) -> Result<Self, Invalid> {
        Ok(Self {
            hits: wire.hits.into_iter().map(SearchHit::from_wire).collect::<Result<_, _>>()?,
            next_cursor: Some(wire.next_cursor).filter(|cursor| !cursor.is_empty()),
            partial: wire.partial,
        })
    }
}

impl ToWire for SearchPage {
    type Wire = pb::SearchResponse;

    fn to_wire(&self) -> pb::SearchResponse {
        pb::SearchResponse {
            hits: self.hits.iter().map(SearchHit::to_wire).collect(),
            next_cursor: self.next_cursor.clone().unwrap_or_default(),
            partial: self.partial,
        }
    }
}

impl FromWire<pb::SearchHit> for SearchHit {
    fn from_wire(wire: pb::SearchHit) -> Result<Self, Invalid> {
        let snippet = wire.snippet.map(|pb::Snippet { start, text }| {
            let end = start.checked_add(text.len() as u64);
            let end = end.ok_or_else(|| Invalid::new("hits.snippet", "ends beyond any document"))?;
            Ok::<_, Invalid>(Snippet { bytes: start..end, text })
        });
        Ok(Self {
            document: DocumentId::try_from(wire.document.as_ref())?,
            window: wire.window,
            bytes: wire.start..wire.end,
            score: wire.score,
            terms: wire.terms,
            matches: wire.matches.into_iter().map(|span| span.start..span.end).collect(),
            snippet: snippet.transpose()?,
        })
    }
}

impl ToWire for SearchHit {
    type Wire = pb::SearchHit;

    fn to_wire(&self) -> pb::SearchHit {
        let matches = self.matches.iter().map(|range| pb::ByteSpan { start: range.start, end: range.end });
        let snippet = self.snippet.as_ref();
        pb::SearchHit {
            document: self.document.to_wire(),
            hex_document: self.document.to_string(),
            window: self.window,
            start: self.bytes.start,
            end: self.bytes.end,
            score: self.score,
            terms: self.terms.clone(),
            matches: matches.collect(),
            snippet: snippet.map(|Snippet { bytes, text }| pb::Snippet { start: bytes.start, text: text.clone() }),
        }
    }
}

impl FromWire<pb::ReindexJob> for ReindexJob {
    fn from_wire(wire: pb::ReindexJob) -> Result<Self, Invalid> {
        let state = match wire.state() {
            pb::ReindexState::Unspecified => return Err(Invalid::new("state", "must be set")),
            pb::ReindexState::Idle => ReindexState::Idle,
            pb::ReindexState::Running => ReindexState::Running,
            pb::ReindexState::Waiting => ReindexState::Waiting,
            pb::ReindexState::Ended => ReindexState::Ended,
        };
        let pb::ReindexJob { documents, reindexed, skipped, failed, windows, last_problem, .. } = wire;
        let last_problem = Some(last_problem).filter(|problem| !problem.is_empty());
        Ok(Self { state, documents, reindexed, skipped, failed, windows, last_problem })
    }
}

impl ToWire for ReindexJob {
    type Wire = pb::ReindexJob;

    fn to_wire(&self) -> pb::ReindexJob {
        let state = match self.state {
            ReindexState::Idle => pb::ReindexState::Idle,
            ReindexState::Running => pb::ReindexState::Running,
            ReindexState::Waiting => pb::ReindexState::Waiting,
            ReindexState::Ended => pb::ReindexState::Ended,
        };
        pb::ReindexJob {
            state: state.into(),
            documents: self.documents,
            reindexed: self.reindexed,
            skipped: self.skipped,
            failed: self.failed,
            windows: self.windows,
            last_problem: self.last_problem.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_survives_the_wire() {
        let query = SearchQuery {
            text: "\"red lamp\"".to_owned(),
            mode: SearchMode::Exact,
            documents: vec!["@book".to_owned()],
            filter: ListQuery { prefix: "ab".to_owned(), ..ListQuery::default() },
            limit: 5,
            cursor: Some("0.1".to_owned()),
            snippet_bytes: 200,
        };
        assert_eq!(SearchQuery::from_wire(query.to_wire()), Ok(query));
        let snippet = Some(Snippet { bytes: 120..128, text: "red lamp".to_owned() });
        let hit = SearchHit {
            document: DocumentId::of(b"text"),
            window: 3,
            bytes: 100..200,
            score: 1.5,
            terms: vec!["lamp".to_owned()],
            matches: vec![120..128, 140..148],
            snippet,
        };
        let page = SearchPage { hits: vec![hit], next_cursor: None, partial: true };
        assert_eq!(SearchPage::from_wire(page.to_wire()), Ok(page));
    }

    #[test]
    fn a_reindex_job_survives_the_wire() {
        let states = [ReindexState::Idle, ReindexState::Running, ReindexState::Waiting, ReindexState::Ended];
        for (state, last_problem) in
            states.into_iter().zip([None, Some("it is damaged".to_owned())].into_iter().cycle())
        {
            let job = ReindexJob { state, documents: 9, reindexed: 1, skipped: 2, failed: 3, windows: 4, last_problem };
            assert_eq!(ReindexJob::from_wire(job.to_wire()), Ok(job));
        }
        assert!(ReindexJob::from_wire(pb::ReindexJob::default()).is_err());
    }
}
