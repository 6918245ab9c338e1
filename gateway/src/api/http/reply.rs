//! Error responses, and extractors whose rejections are problem details.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use c3_server::{ErrorKind, Problem, ServiceError};
use c3_types::Invalid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::state::SharedGateway;
use crate::tenants::SharedTenants;

/// Maximum bytes of a JSON body without a text.
const JSON_BYTES_MAX: usize = 1 << 20;

/// Result of a handler.
pub(super) type Reply<T = Response> = Result<T, Failure>;

/// Error response: problem details and additional headers.
#[derive(Debug)]
pub(super) struct Failure {
    problem: Box<Problem>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    /// Creates a failure of an error kind. `detail` says what to do.
    pub(super) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        kind.problem(detail).into()
    }

    /// Creates the failure of a body in a format that is not supported.
    pub(super) fn media_type(accepted: &str) -> Self {
        Self::new(ErrorKind::UnsupportedMediaType, format!("the body must be {accepted}: set content-type"))
    }

    /// Adds a header to the response.
    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), headers: Vec::new() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        error.problem().into()
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        invalid.problem().into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.problem.into_response().map(Body::from);
        response.headers_mut().extend(self.headers);
        response
    }
}

/// A JSON body. As an extractor, refuses other content types, unknown fields, and bodies over [`JSON_BYTES_MAX`].
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        refuse_encoded(request.headers())?;
        if !is_media_type(request.headers(), &mime::APPLICATION_JSON) {
            return Err(Failure::media_type("application/json"));
        }
        let too_large = || {
            let detail = format!("the body must have at most {JSON_BYTES_MAX} bytes");
            Failure::from(ErrorKind::TooLarge.problem(detail).with("bytes_max", JSON_BYTES_MAX))
        };
        if content_length(request.headers()).is_some_and(|length| length > JSON_BYTES_MAX as u64) {
            return Err(too_large());
        }
        let body = to_bytes(request.into_body(), JSON_BYTES_MAX).await.map_err(|_| too_large())?;
        parse_json(&body).map(Self)
    }
}

/// Parses a JSON body.
pub(super) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::new(ErrorKind::InvalidArgument, format!("the JSON body is invalid: {error}")))
}

/// State of the tenant that makes the call.
pub(super) struct Tenant(pub(super) SharedGateway);

impl FromRequestParts<SharedTenants> for Tenant {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, tenants: &SharedTenants) -> Result<Self, Failure> {
        Ok(Self(tenants.of_caller(&parts.extensions)?))
    }
}

/// Parameters of the query string. Refuses unknown, malformed and empty ones. An empty one would count as missing.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let pairs = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        if let Some((name, _)) = pairs.into_iter().find(|(_, value)| value.is_empty()) {
            let detail = format!("the query parameter `{name:.80}` is empty: omit it");
            return Err(Failure::new(ErrorKind::InvalidArgument, detail));
        }
        let query = axum_extra::extract::Query::<T>::from_request_parts(parts, state).await;
        let query = query.map_err(|rejection| {
            let problem = std::error::Error::source(&rejection).map_or_else(|| rejection.to_string(), innermost);
            Failure::new(ErrorKind::InvalidArgument, format!("the query parameters are invalid: {problem}"))
        })?;
        Ok(Self(query.0))
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

/// Parameters of the path, percent-decoded.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        let path = path.map_err(|rejection| {
            Failure::new(ErrorKind::InvalidArgument, format!("the path is invalid: {}", rejection.body_text()))
        })?;
        Ok(Self(path.0))
    }
}

/// Returns whether the content type of a request is `expected`, regardless of parameters.
pub(super) fn is_media_type(headers: &HeaderMap, expected: &mime::Mime) -> bool {
    content_type(headers).is_some_and(|given| given.essence_str() == expected.essence_str())
}

/// Returns the content type of a request; `None` if it is missing or malformed.
pub(super) fn content_type(headers: &HeaderMap) -> Option<mime::Mime> {
    headers.get(CONTENT_TYPE)?.to_str().ok()?.parse().ok()
}

/// Returns the declared length of a request's body.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Refuses compressed bodies.
pub(super) fn refuse_encoded(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(()),
        Some(_) => {
            let detail = "compressed bodies are not supported: send the body without content-encoding";
            Err(Failure::new(ErrorKind::UnsupportedMediaType, detail))
        }
    }
}
