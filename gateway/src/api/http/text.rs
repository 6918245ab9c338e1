//! The text of a document: whole, byte ranges, lines, or events; and drafts of its windows.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::IntoResponse;
use c3_routing::RequestClass;
use c3_server::ServiceError;
use c3_types::LineRange;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use headers::ETag;
use serde::Deserialize;
use utoipa::IntoParams;

use super::conditional::{Condition, check_read, etag, etag_value, is_head, range_applies};
use super::documents::RefPath;
use super::events;
use super::model::{DocumentBody, ProblemBody};
use super::ranges::{MultipartRanges, Selection, content_range};
use super::reply::{Failure, Path, Query, Reply, Tenant};
use crate::error::Error;
use crate::read::document::{OpenDocument, TextPiece};
use crate::read::draft::draft;
use crate::read::lines::get_lines;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");
/// A name may point to another document at any time, and a document may be deleted.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
/// Decoders of different arithmetic may write different drafts.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TextParameters {
    /// Lines to return: A-B, A- or A. The first line is 1, and both ends are inclusive. Excludes Range.
    #[param(nullable = false, pattern = "^[1-9][0-9]*(-([1-9][0-9]*)?)?$", example = "10-20")]
    lines: Option<String>,
}

/// Returns the text of a document.
///
/// Supports byte ranges (`Range`, `If-Range`) and conditions (`If-Match`, `If-None-Match`). The entity tag is the
/// document's id, which is the hash of the text. With `Accept: text/event-stream`, the response has events: `document`,
/// then `text` with the positions of corrected tokens, then `result` or `problem`.
#[utoipa::path(
    get, operation_id = "get_text", path = "/v1/documents/{ref}/text", tag = "text",
    params(
        RefPath, TextParameters,
        ("range" = Option<String>, Header, description = "Byte ranges", example = "bytes=0-99"),
        ("if-range" = Option<String>, Header, description = "Entity tag for which the range holds"),
        ("if-none-match" = Option<String>, Header, description = "Entity tags that the caller has"),
        ("if-match" = Option<String>, Header, description = "Entity tags of which the text must have one"),
    ),
    responses(
        (status = 200, description = "The text", body = String, content_type = "text/plain",
            headers(("etag" = String), ("accept-ranges" = String))),
        (status = 206, description = "Ranges of the text", body = String, content_type = "text/plain",
            headers(("etag" = String), ("content-range" = String))),
        (status = 304, description = "The caller has the current text", headers(("etag" = String))),
        (status = 412, description = "No entity tag of If-Match is the current one", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 416, description = "The range lies outside the document; `bytes` or `lines` has its size",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(
    Tenant(gateway): Tenant,
    Path(reference): Path<String>,
    Query(parameters): Query<TextParameters>,
    method: Method,
    headers: HeaderMap,
) -> Reply {
    gateway.admit(RequestClass::Read)?;
    let lines = parameters.lines.as_deref().map(str::parse::<LineRange>).transpose()?;
    let open = OpenDocument::open(gateway, &reference).await?;
    let document = open.document();
    let size = document.bytes;
    let tag = etag(&document.id.to_string());
    if check_read(&headers, &tag)? == Condition::NotModified {
        return Ok((StatusCode::NOT_MODIFIED, validators(&tag)).into_response());
    }
    if events::are_wanted(&headers) && !is_head(&method) {
        let document = DocumentBody::from(&document);
        return Ok(match lines {
            Some(lines) => events::of_text(document, get_lines(&open, lines).boxed()),
            None => events::of_text(document, open.text(0..size).boxed()),
        });
    }
    let location = (header::CONTENT_LOCATION, value(format!("/v1/documents/{}/text", document.id)));
    let common = [(header::CONTENT_TYPE, TEXT), (header::X_CONTENT_TYPE_OPTIONS, NO_SNIFFING)];
    if let Some(lines) = lines {
        let body = if is_head(&method) { Body::empty() } else { streamed(get_lines(&open, lines).boxed()).await? };
        return Ok((validators(&tag), common, body).into_response());
    }
    let common = (validators(&tag), [(header::ACCEPT_RANGES, BYTES), location], common);
    let selection = match is_head(&method) || !range_applies(&headers, &tag) {
        true => Selection::Whole,
        false => Selection::from_headers(&headers, size),
    };
    match selection {
        Selection::Whole => {
            let length = [(header::CONTENT_LENGTH, value(size))];
            let body = if is_head(&method) { Body::empty() } else { streamed(open.text(0..size).boxed()).await? };
            Ok((common, length, body).into_response())
        }
        Selection::Unsatisfiable => {
            let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
            let failure = Failure::from(Error::OutOfRange { range: range.to_owned(), size, unit: "bytes" });
            Err(failure.with_header(header::CONTENT_RANGE, value(format!("bytes */{size}"))))
        }
        Selection::Ranges(ranges) if ranges.len() == 1 => {
            let range = ranges[0].clone();
            let part = [
                (header::CONTENT_RANGE, value(content_range(&range, size))),
                (header::CONTENT_LENGTH, value(range.end - range.start)),
            ];
            let body = streamed(open.text(range).boxed()).await?;
            Ok((StatusCode::PARTIAL_CONTENT, common, part, body).into_response())
        }
        Selection::Ranges(ranges) => {
            let multipart = MultipartRanges::new(boundary(&tag), size, ranges);
            let part = [
                (header::CONTENT_TYPE, value(multipart.content_type())),
                (header::CONTENT_LENGTH, value(multipart.length())),
            ];
            Ok((StatusCode::PARTIAL_CONTENT, common, part, several(open, multipart)).into_response())
        }
    }
}

/// Path of a draft.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct DraftPath {
    /// The document, as elsewhere.
    #[param(
        rename = "ref",
        min_length = 1,
        example = "75107657738c7ef7a4f3a217addcdf03ce2074467c02f70b6451b743e4406629"
    )]
    #[serde(rename = "ref")]
    reference: String,
    /// Index of the window in the document, from 0.
    window: u64,
}

/// Returns the draft of a window.
///
/// A draft is the text that the decoder writes without corrections. It shows what the model restores by itself. It is
/// not verified; parts of characters are replaced by U+FFFD.
#[utoipa::path(
    get, operation_id = "get_draft", path = "/v1/documents/{ref}/drafts/{window}", tag = "text", params(DraftPath),
    responses(
        (status = 200, description = "The draft", body = String, content_type = "text/plain"),
        (status = 416, description = "The document has fewer windows; `windows` is their number", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get_draft(Tenant(gateway): Tenant, Path(path): Path<DraftPath>) -> Reply {
    gateway.admit(RequestClass::Read)?;
    let draft = draft(&gateway, &path.reference, path.window).await?;
    let headers = [
        (header::CONTENT_TYPE, TEXT),
        (header::CACHE_CONTROL, NO_STORE),
        (header::X_CONTENT_TYPE_OPTIONS, NO_SNIFFING),
    ];
    Ok((headers, String::from_utf8_lossy(&draft).into_owned()).into_response())
}

fn validators(tag: &ETag) -> [(HeaderName, HeaderValue); 2] {
    [(header::ETAG, etag_value(tag)), (header::CACHE_CONTROL, REVALIDATE)]
}

fn value(text: impl ToString) -> HeaderValue {
    text.to_string().parse().expect("numbers, digits and fixed texts are valid in headers")
}

/// Returns a body of these pieces. Waits for the first piece, so that the response gets the status of an early failure.
async fn streamed(pieces: BoxStream<'static, Result<TextPiece, Error>>) -> Result<Body, Failure> {
    let mut pieces = pieces.map_ok(|piece| piece.text);
    let first = match pieces.next().await {
        Some(first) => Some(Ok(first?)),
        None => None,
    };
    Ok(body(stream::iter(first).chain(pieces)))
}

/// Returns a body that breaks off at an error, which the caller notices by the missing end of the body.
pub(super) fn body(pieces: impl Stream<Item = Result<Bytes, Error>> + Send + 'static) -> Body {
    Body::from_stream(pieces.inspect_err(|error| {
        let problem = error.problem();
        tracing::warn!(problem = problem.detail(), "a response breaks off");
    }))
}

/// Returns the body of a response with several ranges.
fn several(open: OpenDocument, multipart: MultipartRanges) -> Body {
    let end = Bytes::from(multipart.end());
    let parts = stream::iter(multipart.parts()).flat_map(move |(head, range)| {
        let text = open.text(range).boxed().map_ok(|piece| piece.text);
        stream::iter([Ok(Bytes::from(head))]).chain(text)
    });
    body(parts.chain(stream::iter([Ok(end)])))
}

/// Returns a boundary that callers cannot predict, so that no text contains it on purpose.
fn boundary(tag: &ETag) -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("c3-{:016x}", RandomState::new().hash_one(format!("{tag:?}")))
}
