//! The HTTP transport: `/v1`, its OpenAPI description and a page with documentation.
//!
//! Errors are problem details (RFC 9457). Long responses are streamed, and long bodies are read as they arrive.

mod conditional;
mod console;
mod docs;
mod documents;
mod events;
#[cfg(test)]
mod fuzz;
mod json_text;
mod latents;
mod latents_body;
mod model;
mod names;
mod options;
mod pieces;
mod ranges;
mod reply;
mod search;
mod system;
mod text;
mod text_body;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{Extensions, HeaderMap, HeaderName, Method, StatusCode, Version, header};
use axum::routing::get;
use c3_access::control::METADATA_PATH;
use c3_server::ErrorKind;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::reply::Failure;
use crate::config::Config;
use crate::tenants::SharedTenants;

/// Minimum bytes of a response that is compressed.
const COMPRESSED_BYTES_MIN: u16 = 1024;

/// Returns the routes of the HTTP API.
pub(crate) fn routes(tenants: SharedTenants) -> axum::Router {
    let cors = cors(&tenants.config);
    let (router, api) = described_routes().split_for_parts();
    // A name may contain `/`, for which OpenAPI has no path template.
    let named = get(names::get).put(names::put).delete(names::delete);
    let api = Arc::from(docs::complete(api));
    let documents =
        axum::Router::new().route("/openapi.json", get(docs::openapi).with_state(api)).route("/docs", get(docs::page));
    let console = console::routes(Arc::clone(&tenants));
    let router = router
        .route("/v1/names/{namespace}/{*name}", named)
        .route(METADATA_PATH, get(system::resource_metadata))
        .with_state(tenants)
        .merge(documents)
        .merge(console);
    let router = router
        .method_not_allowed_fallback(method_not_allowed)
        // Each kind of body has its own limit.
        .layer(DefaultBodyLimit::disable())
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(COMPRESSED_BYTES_MIN).and(is_compressible)));
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// Returns the routes that the OpenAPI description has.
fn described_routes() -> OpenApiRouter<SharedTenants> {
    OpenApiRouter::with_openapi(docs::Api::openapi())
        .routes(routes!(documents::put, documents::post, documents::list))
        .routes(routes!(documents::get, documents::delete))
        .routes(routes!(documents::append_text))
        .routes(routes!(documents::recode_document))
        .routes(routes!(text::get))
        .routes(routes!(text::get_draft))
        .routes(routes!(names::get_labels, names::replace_labels, names::patch_labels, names::delete_labels))
        .routes(routes!(latents::get))
        .routes(routes!(latents::post))
        .routes(routes!(latents::compress_text))
        .routes(routes!(latents::decompress_latents))
        .routes(routes!(search::search))
        .routes(routes!(search::reindex_document))
        .routes(routes!(search::start_reindex, search::get_reindex))
        .routes(routes!(names::list))
        .routes(routes!(system::uploads))
        .routes(routes!(system::nodes))
        .routes(routes!(system::totals))
}

/// Returns the OpenAPI description, without the parts that [`docs::complete`] adds.
#[cfg(test)]
fn description() -> utoipa::openapi::OpenApi {
    described_routes().into_openapi()
}

async fn method_not_allowed() -> Failure {
    Failure::new(ErrorKind::MethodNotAllowed, "this path does not support the method: see the header allow, and /docs")
}

/// Returns whether a response may be compressed: it is JSON or a file of a web page, and has no strong entity tag, which
/// would stand for another sequence of bytes.
fn is_compressible(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let compressible = ["application/json", "application/problem+json", "text/html", "text/css", "text/javascript"];
    compressible.iter().any(|kind| content_type.starts_with(kind)) && !headers.contains_key(header::ETAG)
}

/// Returns the headers for pages of other origins, if the configuration allows any.
fn cors(config: &Config) -> Option<CorsLayer> {
    let origins = &config.cors_origins;
    let allowed = match origins.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        // The configuration was checked, so every origin is a header value.
        false => AllowOrigin::list(origins.iter().filter_map(|origin| origin.to_ascii_lowercase().parse().ok())),
    };
    let exposed = [
        header::ETAG,
        header::LOCATION,
        header::CONTENT_LOCATION,
        header::CONTENT_RANGE,
        header::ACCEPT_RANGES,
        header::RETRY_AFTER,
        header::WWW_AUTHENTICATE,
        HeaderName::from_static("ratelimit"),
        HeaderName::from_static("ratelimit-policy"),
    ];
    let methods = [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::PATCH, Method::DELETE];
    (!origins.is_empty()).then(|| {
        CorsLayer::new().allow_origin(allowed).allow_methods(methods).allow_headers(Any).expose_headers(exposed)
    })
}
