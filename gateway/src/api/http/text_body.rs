//! The text of a write, in the three forms that a body may have: raw, `multipart/form-data` or JSON.
//!
//! A text is never held as a whole: it is passed on as it arrives. The options come before it, in the query string
//! (raw) or as the first parts or members of the body. Only a JSON body of at most [`JSON_BYTES_MAX`] bytes may have
//! its members in any order.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, Uri};
use c3_server::ErrorKind;
use c3_types::{Invalid, WriteOptions};
use futures::{StreamExt, TryStreamExt, stream};
use multer::{Constraints, Multipart, SizeLimit};

use super::json_text::{self, JSON_BYTES_MAX, JsonText};
use super::options::{PutBody, PutQuery};
use super::pieces::{Pieces, pieces};
use super::reply::{Failure, Query, content_length, content_type, refuse_encoded};
use crate::error::Error;
use crate::tenants::SharedTenants;

/// Maximum bytes of a part with an option in a multipart body.
const OPTION_BYTES_MAX: u64 = 1 << 10;
/// Maximum bytes of all options together in a multipart body.
const OPTIONS_BYTES_MAX: usize = 32 << 10;
/// Names of the multipart part with the text.
const TEXT_PARTS: [&str; 2] = ["text", "file"];
/// Maximum bytes of a JSON body for each byte of its text: the escape `\u0000` stands for one byte.
const JSON_ESCAPE_BYTES: u64 = 6;

/// A text and the options of its write.
pub(super) struct TextBody {
    pub(super) options: WriteOptions,
    pub(super) text: Pieces,
}

impl FromRequest<SharedTenants> for TextBody {
    type Rejection = Failure;

    /// Reads the options. Refuses other content types and, before it reads the body, a declared length that exceeds the
    /// maximum size of a document.
    async fn from_request(request: Request, tenants: &SharedTenants) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        refuse_encoded(&parts.headers)?;
        let Query(query) = Query::<PutQuery>::from_request_parts(&mut parts, tenants).await?;
        let length = content_length(&parts.headers);
        let limit = |bytes| check_size(bytes, tenants.config.document_size_max.0);
        let essence = content_type(&parts.headers).map(|given| given.essence_str().to_owned());
        match essence.as_deref() {
            None if parts.headers.contains_key(axum::http::header::CONTENT_TYPE) => Err(unsupported()),
            None | Some("text/plain" | "application/octet-stream" | "text/markdown") => {
                check_charset(&parts.headers)?;
                limit(length)?;
                Ok(Self { options: checked(query.into_options(length)?)?, text: pieces(body) })
            }
            Some("application/json") => {
                refuse_query(&query)?;
                limit(length.map(|length| length.saturating_sub(JSON_BYTES_MAX as u64) / JSON_ESCAPE_BYTES))?;
                from_json(pieces(body)).await
            }
            Some("multipart/form-data") => {
                refuse_query(&query)?;
                limit(length.map(|length| length.saturating_sub(2 * OPTIONS_BYTES_MAX as u64)))?;
                from_multipart(&parts.headers, body).await
            }
            Some(_) => Err(unsupported()),
        }
    }
}

fn unsupported() -> Failure {
    Failure::media_type("text/plain, application/octet-stream, application/json or multipart/form-data")
}

fn checked(options: WriteOptions) -> Result<WriteOptions, Invalid> {
    options.check().map(|()| options)
}

fn check_size(bytes: Option<u64>, max: u64) -> Result<(), Error> {
    match bytes {
        Some(bytes) if bytes > max => Err(Error::TooLarge { bytes, max }),
        _ => Ok(()),
    }
}

fn check_charset(headers: &HeaderMap) -> Result<(), Failure> {
    let given = content_type(headers);
    let charset = given.as_ref().and_then(|given| given.get_param(mime::CHARSET));
    match charset {
        Some(charset) if charset != mime::UTF_8 && charset != "us-ascii" => {
            let detail = format!("texts must be UTF-8, not {charset}: convert the text");
            Err(Failure::new(ErrorKind::UnsupportedMediaType, detail))
        }
        _ => Ok(()),
    }
}

fn refuse_query(query: &PutQuery) -> Result<(), Failure> {
    match query.is_empty() {
        true => Ok(()),
        false => {
            let detail = "options in the query string are for raw texts: put the options into the body";
            Err(Failure::new(ErrorKind::InvalidArgument, detail))
        }
    }
}

pub(super) async fn from_json(body: Pieces) -> Result<TextBody, Failure> {
    match json_text::read(body).await? {
        JsonText::Whole(body) => {
            let mut body: PutBody = super::reply::parse_json(&body)?;
            let text = body.text.take().ok_or_else(|| Invalid::new("text", "must be given"))?;
            let options = checked(body.into_options(Some(text.len() as u64))?)?;
            Ok(TextBody { options, text: stream::iter([Ok(text.into())]).boxed() })
        }
        JsonText::Streamed { options, text } => {
            let options: PutBody = super::reply::parse_json(options.to_string().as_bytes())?;
            Ok(TextBody { options: checked(options.into_options(None)?)?, text })
        }
    }
}

pub(super) async fn from_multipart(headers: &HeaderMap, body: Body) -> Result<TextBody, Failure> {
    let invalid = |problem: String| Failure::new(ErrorKind::InvalidArgument, format!("the multipart body {problem}"));
    let given = headers.get(axum::http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(given.unwrap_or_default()).map_err(|error| invalid(error.to_string()))?;
    // The text has no limit here: the write limits it. The other parts are read one by one below.
    let limits = TEXT_PARTS
        .iter()
        .fold(SizeLimit::new().per_field(OPTION_BYTES_MAX), |limits, part| limits.for_field(*part, u64::MAX));
    let constraints = Constraints::new().size_limit(limits);
    let mut multipart = Multipart::with_constraints(body.into_data_stream(), boundary, constraints);
    let (mut query, mut bytes) = (String::from("/?"), 0);
    loop {
        let next = multipart.next_field().await.map_err(|error| invalid(format!("is broken: {error}")))?;
        let field = next.ok_or_else(|| invalid("has no part `text`: add it as the last part".to_owned()))?;
        let name = field.name().unwrap_or_default().to_owned();
        if TEXT_PARTS.contains(&name.as_str()) {
            let uri: Uri = query.parse().map_err(|_| invalid("has invalid options".to_owned()))?;
            let options = axum_extra::extract::Query::<PutQuery>::try_from_uri(&uri);
            let options = options.map_err(|error| invalid(format!("has invalid options: {}", error.body_text())))?;
            let options = checked(options.0.into_options(None)?)?;
            let broken = |error: multer::Error| Error::Body(error.to_string());
            // After the text, no part may follow: its option would come too late.
            let end = stream::once(async move {
                match multipart.next_field().await.map_err(broken)? {
                    None => Ok(Bytes::new()),
                    Some(_) => Err(Invalid::new("text", "must be the last part of the multipart body").into()),
                }
            });
            return Ok(TextBody { options, text: field.map_err(broken).chain(end).boxed() });
        }
        let value = field.text().await.map_err(|error| invalid(format!("has an invalid part `{name}`: {error}")))?;
        bytes += name.len() + value.len();
        if bytes > OPTIONS_BYTES_MAX {
            return Err(invalid(format!("has more than {OPTIONS_BYTES_MAX} bytes of options")));
        }
        let pair =
            [name.as_str(), &value].map(|part| form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>());
        query += &format!("{}={}&", pair[0], pair[1]);
    }
}
