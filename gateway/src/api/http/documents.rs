//! Documents: put, append, recode, list, describe and delete.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use c3_routing::RequestClass;
use c3_types::{CreatedRange, Invalid, Label, Labels, ListQuery, NameFilter, Namespace, PutEvent, Stored};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Deserialize;
use utoipa::IntoParams;

use super::events;
use super::model::{DocumentBody, DocumentsBody, IdBody, ProblemBody, StoredBody};
use super::options::{PutBody, PutQuery};
use super::pieces::drain;
use super::reply::{Failure, Json, Path, Query, Reply, Tenant};
use super::text_body::TextBody;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::ingest::document::{append, put_document};
use crate::ingest::recode::recode;

/// Stores a text.
///
/// The body is the text itself (UTF-8, as `text/plain` or `application/octet-stream`), with the options in the query
/// string; or `multipart/form-data` with one part for each option, then the part `text`; or JSON with options and text.
/// Storing the same text again gives the same document. With `Accept: text/event-stream`, the response has events:
/// `progress`, then `result` or `problem`.
#[utoipa::path(
    put, operation_id = "put_document", path = "/v1/documents", tag = "documents", params(PutQuery),
    request_body(content(
        (String = "text/plain", example = "Nothing in the world is as soft as water."),
        (PutBody = "application/json"),
    ), description = "The text"),
    responses(
        (status = 200, description = "The document, which was stored before", body = StoredBody),
        (status = 201, description = "The new document", body = StoredBody, headers(("location" = String))),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put(Tenant(gateway): Tenant, headers: HeaderMap, body: TextBody) -> Reply {
    gateway.admit(RequestClass::Write)?;
    let TextBody { options, mut text } = body;
    if events::are_wanted(&headers) {
        return Ok(events::of_write(put_document(gateway, options, text).boxed()));
    }
    let stored = stored(put_document(gateway, options, &mut text).boxed()).await;
    respond(stored, &mut text).await
}

/// Stores a text, as PUT does.
#[utoipa::path(
    post, operation_id = "post_document", path = "/v1/documents", tag = "documents", params(PutQuery),
    request_body(content(
        (String = "text/plain", example = "Nothing in the world is as soft as water."),
        (PutBody = "application/json"),
    ), description = "The text"),
    responses(
        (status = 200, description = "The document, which was stored before", body = StoredBody),
        (status = 201, description = "The new document", body = StoredBody, headers(("location" = String))),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn post(gateway: Tenant, headers: HeaderMap, body: TextBody) -> Reply {
    put(gateway, headers, body).await
}

/// Appends to a document.
///
/// The body has the same forms as that of a put. The result is a new document; the stored one stays. Usually only the
/// end of the stored document is decoded.
#[utoipa::path(
    post, operation_id = "append", path = "/v1/documents/{ref}/append", tag = "documents", params(RefPath, PutQuery),
    request_body(content(
        (String = "text/plain", example = " And yet nothing surpasses it."),
        (PutBody = "application/json"),
    ), description = "The text to append"),
    responses(
        (status = 200, description = "The document, which was stored before", body = StoredBody),
        (status = 201, description = "The new document", body = StoredBody, headers(("location" = String))),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn append_text(
    Tenant(gateway): Tenant,
    Path(reference): Path<String>,
    headers: HeaderMap,
    body: TextBody,
) -> Reply {
    gateway.admit(RequestClass::Write)?;
    let TextBody { options, mut text } = body;
    if options.base.is_some() {
        return Err(Invalid::new("base", "base and append_to cannot be combined with the path: omit them").into());
    }
    if events::are_wanted(&headers) {
        return Ok(events::of_write(append(gateway, reference, options, text).boxed()));
    }
    let stored = stored(append(gateway, reference, options, &mut text).boxed()).await;
    respond(stored, &mut text).await
}

/// Writes a document again.
///
/// The body has the new options; those that are unset keep their values. The document stays readable meanwhile. Names,
/// labels and uploads are not changed.
#[utoipa::path(
    post, operation_id = "recode", path = "/v1/documents/{ref}/recode", tag = "documents", params(RefPath),
    request_body(content = super::options::RecodeBody),
    responses(
        (status = 200, description = "The document", body = StoredBody),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn recode_document(
    Tenant(gateway): Tenant,
    Path(reference): Path<String>,
    headers: HeaderMap,
    Json(body): Json<super::options::RecodeBody>,
) -> Reply {
    gateway.admit(RequestClass::Write)?;
    let events = recode(gateway, reference, body.into_options()?).boxed();
    if events::are_wanted(&headers) {
        return Ok(events::of_write(events));
    }
    Ok(Json(StoredBody::from(&stored(events).await?)).into_response())
}

/// Waits for the result of a write. The stream is boxed, because it is large: an unoptimised program copies it for each
/// function that it passes through, and would exceed the stack.
async fn stored(mut events: BoxStream<'_, Result<PutEvent, Error>>) -> Result<Stored, Error> {
    while let Some(event) = events.next().await {
        if let PutEvent::Stored(stored) = event? {
            return Ok(*stored);
        }
    }
    Err(Error::Internal("a write ended without a result".to_owned()))
}

/// Returns the response to a put or append. `text` is the part of the body that was not read.
async fn respond(stored: Result<Stored, Error>, text: &mut super::pieces::Pieces) -> Reply {
    match stored {
        Ok(stored) => {
            let status = if stored.already_stored { StatusCode::OK } else { StatusCode::CREATED };
            let location = format!("/v1/documents/{}", stored.document.id);
            Ok((status, [(header::LOCATION, location)], Json(StoredBody::from(&stored))).into_response())
        }
        Err(error @ Error::TooLarge { .. }) => Err(error.into()),
        Err(error) => {
            drain(text).await;
            Err(error.into())
        }
    }
}

/// The document in the path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes the path, which handlers extract as a string")]
pub(super) struct RefPath {
    /// The document: its id, a unique prefix of the id, or @NAME. A `/` in a name is written as `%2F`.
    #[param(
        rename = "ref",
        min_length = 1,
        example = "75107657738c7ef7a4f3a217addcdf03ce2074467c02f70b6451b743e4406629"
    )]
    reference: String,
}

/// Describes a document.
#[utoipa::path(
    get, operation_id = "get_document", path = "/v1/documents/{ref}", tag = "documents", params(RefPath),
    responses(
        (status = 200, description = "The document with its labels", body = DocumentBody),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(Tenant(gateway): Tenant, Path(reference): Path<String>) -> Reply {
    let (document, _) = gateway.stat(&reference).await?;
    Ok(Json(DocumentBody::from(&document)).into_response())
}

/// Deletes a document with its names and labels.
#[utoipa::path(
    delete, operation_id = "delete_document", path = "/v1/documents/{ref}", tag = "documents", params(RefPath),
    responses(
        (status = 200, description = "The id of the deleted document", body = IdBody),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(Tenant(gateway): Tenant, Path(reference): Path<String>) -> Reply {
    let id = gateway.delete(&reference).await?.to_string();
    Ok(Json(IdBody { id }).into_response())
}

/// Filters of a list of documents.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// Maximum documents of a page.
    #[param(nullable = false, minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before. The filters must be the same.
    #[param(nullable = false, min_length = 1)]
    cursor: Option<String>,
    /// First hexadecimal digits of the id.
    #[param(nullable = false, pattern = "^[0-9a-fA-F]{1,64}$")]
    id_prefix: Option<String>,
    /// Beginning of a name that the document must have.
    #[param(nullable = false, min_length = 1)]
    name_prefix: Option<String>,
    /// Namespace of the name; default: `default`. Without `name_prefix`, any name of the namespace.
    #[param(nullable = false, min_length = 1, max_length = 72)]
    namespace: Option<String>,
    /// Label that the document must have, as KEY=VALUE; repeatable.
    #[param(schema_with = super::options::label_parameter)]
    #[serde(default)]
    label: Vec<String>,
    /// Earliest time of creation.
    #[param(nullable = false, format = DateTime)]
    created_from: Option<String>,
    /// Time before which the document was created.
    #[param(nullable = false, format = DateTime)]
    created_before: Option<String>,
}

impl ListParameters {
    pub(super) fn query(&self) -> Result<ListQuery, Failure> {
        let labels = self.label.iter().map(|label| Ok(label.parse::<Label>()?.into()));
        let labels = Labels::new(labels.collect::<Result<Vec<_>, Invalid>>()?)?;
        let filter = Filter {
            id_prefix: self.id_prefix.as_deref(),
            name_prefix: self.name_prefix.as_deref(),
            namespace: self.namespace.as_deref(),
            labels,
            created_from: self.created_from.as_deref(),
            created_before: self.created_before.as_deref(),
        };
        Ok(ListQuery { page_size: page_size(self.limit)?, ..filter.query()? })
    }
}

/// Filter of documents, as lists and searches have it.
pub(super) struct Filter<'a> {
    pub(super) id_prefix: Option<&'a str>,
    pub(super) name_prefix: Option<&'a str>,
    pub(super) namespace: Option<&'a str>,
    pub(super) labels: Labels,
    pub(super) created_from: Option<&'a str>,
    pub(super) created_before: Option<&'a str>,
}

impl Filter<'_> {
    /// Returns the query that lists the documents.
    pub(super) fn query(self) -> Result<ListQuery, Invalid> {
        let namespace = self.namespace.map(str::parse::<Namespace>).transpose()?;
        let names = match (namespace, self.name_prefix) {
            (None, None) => None,
            (namespace, prefix) => Some(NameFilter {
                namespace: namespace.unwrap_or_default(),
                prefix: prefix.unwrap_or_default().to_owned(),
            }),
        };
        let created = CreatedRange {
            from_unix_ms: time("created_from", self.created_from)?,
            before_unix_ms: time("created_before", self.created_before)?,
        };
        let prefix = self.id_prefix.unwrap_or_default().to_owned();
        ListQuery { prefix, after: None, labels: self.labels, names, created, page_size: 0 }.checked()
    }
}

/// Returns the number of entries of a page; 0 for the maximum.
pub(super) fn page_size(limit: Option<u32>) -> Result<u32, Invalid> {
    match limit {
        Some(limit) if !(1..=1000).contains(&limit) => Err(Invalid::new("limit", "must be from 1 to 1000")),
        limit => Ok(limit.unwrap_or(0)),
    }
}

fn time(field: &'static str, typed: Option<&str>) -> Result<Option<u64>, Invalid> {
    let parse = |typed: &str| {
        let wrong = || Invalid::new(field, "must be a time such as 2026-03-01T12:00:00Z");
        let time = humantime::parse_rfc3339(&typed.to_ascii_uppercase()).map_err(|_| wrong())?;
        // Nothing was created before 1970.
        Ok(time.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
    };
    typed.map(parse).transpose()
}

/// Lists documents in the order of ids.
///
/// A page may have fewer documents than `limit`, even none, although another page follows.
#[utoipa::path(
    get, operation_id = "list_documents", path = "/v1/documents", tag = "documents", params(ListParameters),
    responses(
        (status = 200, description = "A page of documents", body = DocumentsBody),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(Tenant(gateway): Tenant, Query(parameters): Query<ListParameters>) -> Reply {
    let query = parameters.query()?;
    let listing = Cursor::of_listing("documents", &(&query.prefix, &query.labels, &query.names, &query.created));
    let after = parameters.cursor.as_deref().map(|cursor| listing.position(cursor)).transpose()?;
    let after = after.map(|id| id.parse()).transpose().map_err(|_| listing.malformed())?;
    let page = gateway.list(ListQuery { after, ..query }).await?;
    let next = page.next.map(|id| listing.cursor(&id.to_string()));
    Ok(Json(DocumentsBody::new(&page, next)).into_response())
}
