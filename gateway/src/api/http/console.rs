//! The console: web pages that the gateway serves from its program, and the session with which they call the HTTP API.
//!
//! The pages are built from `clients/console`. They run only scripts of the gateway and call only the gateway.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use c3_access::Control;
use c3_access::session::{self, set_cookie};
use c3_server::ErrorKind;
use c3_server::access::{AccessControl, Identity, Scope, Scopes};
use rust_embed::RustEmbed;
use serde::{Deserialize, Serialize};

use super::reply::{Failure, Json, Reply};
use crate::tenants::SharedTenants;

/// Page of every path that is no file, so that the addresses within the console can be opened directly.
const INDEX: &str = "index.html";
/// Folder of the files whose names contain a hash of their content.
const HASHED: &str = "assets/";
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "../clients/console/dist"]
struct Files;

/// Credentials with which a session begins.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    /// API key or token.
    key: String,
}

/// Session as a page sees it: who is signed in, and with which scopes.
#[derive(Debug, Serialize)]
struct Session {
    /// True if the gateway has access control. Without it, every caller may do everything.
    required: bool,
    signed_in: bool,
    tenant: Option<String>,
    /// Id of the API key, or subject of the token.
    key: Option<String>,
    scopes: Vec<&'static str>,
    /// Token that every request except GET and HEAD must carry in the header `x-csrf-token`.
    csrf: Option<String>,
}

/// Returns the routes of the console.
pub(super) fn routes(tenants: SharedTenants) -> axum::Router {
    let session = get(current).post(begin).delete(end);
    let router = axum::Router::new().route("/console/session", session).with_state(tenants);
    router.route("/console", get(index)).route("/console/", get(index)).route("/console/{*path}", get(file))
}

async fn index() -> Response {
    serve(INDEX).unwrap_or_else(missing)
}

/// Returns a file, or the index for a path without an extension.
async fn file(Path(path): Path<String>) -> Response {
    let is_page = !path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    serve(if is_page { INDEX } else { &path }).unwrap_or_else(missing)
}

fn missing() -> Response {
    Failure::new(ErrorKind::NotFound, "the console has no such file: open /console").into_response()
}

fn serve(path: &str) -> Option<Response> {
    let file = Files::get(path)?;
    let cache = if path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_str(file.metadata.mimetype()).ok()?),
        (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ];
    Some((headers, file.data.into_owned()).into_response())
}

/// Returns the session of the request.
async fn current(State(tenants): State<SharedTenants>, headers: HeaderMap) -> Response {
    let Some(control) = &tenants.control else { return Session::open().response(None) };
    let session = match session::credentials(&headers) {
        Some(key) => identity(control, key).await.map(|identity| Session::of(&identity, key)),
        None => None,
    };
    session.unwrap_or_else(Session::signed_out).response(None)
}

/// Begins a session. The cookie holds the credentials of the body.
async fn begin(
    State(tenants): State<SharedTenants>,
    headers: HeaderMap,
    Json(Credentials { key }): Json<Credentials>,
) -> Reply {
    let Some(control) = &tenants.control else { return Ok(Session::open().response(None)) };
    let key = key.trim();
    let refused = || Failure::new(ErrorKind::Unauthenticated, "no valid API key or token: check the key and try again");
    let identity = identity(control, key).await.ok_or_else(refused)?;
    let cookie = set_cookie(Some(key), is_secure(&tenants, &headers)).ok_or_else(refused)?;
    Ok(Session::of(&identity, key).response(Some(cookie)))
}

/// Ends the session.
async fn end(State(tenants): State<SharedTenants>, headers: HeaderMap) -> Response {
    let session = if tenants.control.is_some() { Session::signed_out() } else { Session::open() };
    session.response(set_cookie(None, is_secure(&tenants, &headers)))
}

/// Returns the identity that a key or token proves; `None` if it is not valid.
async fn identity(control: &Control, key: &str) -> Option<Identity> {
    let bearer = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, bearer)]);
    if let Some(prepared) = control.prepare(&headers) {
        prepared.await;
    }
    control.authenticate(&Method::GET, &headers).ok()
}

/// Returns whether the browser reaches the gateway over TLS, directly or through a proxy.
fn is_secure(tenants: &SharedTenants, headers: &HeaderMap) -> bool {
    let is_proxied =
        headers.get("x-forwarded-proto").is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"));
    is_proxied || tenants.config.server.tls.files.tls_cert.is_some()
}

impl Session {
    /// The session of every page of a gateway without access control.
    fn open() -> Self {
        Self { required: false, signed_in: true, scopes: names(Scopes::all()), ..Self::signed_out() }
    }

    fn signed_out() -> Self {
        Self { required: true, signed_in: false, tenant: None, key: None, scopes: Vec::new(), csrf: None }
    }

    fn of(identity: &Identity, credentials: &str) -> Self {
        Self {
            required: true,
            signed_in: true,
            tenant: Some(identity.tenant.to_string()),
            key: Some(identity.name.clone()),
            scopes: names(identity.scopes),
            csrf: Some(session::csrf_token(credentials)),
        }
    }

    fn response(self, cookie: Option<HeaderValue>) -> Response {
        let mut response = (StatusCode::OK, axum::Json(self)).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
        response
    }
}

fn names(scopes: Scopes) -> Vec<&'static str> {
    scopes.iter().map(Scope::as_str).collect()
}
