//! The OpenAPI description of the HTTP API, and a page that shows it without assets from elsewhere.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse};
use c3_server::access::Requirement;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi as Description, RefOr, Required};

use super::{events, model, names};
use crate::access::requirement;

/// Name of the security scheme.
const SCHEME: &str = "bearer";

/// The page runs only its own script and calls only this gateway.
const CONTENT_SECURITY_POLICY: (HeaderName, HeaderValue) = (
    header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
    ),
);

/// Description of the API, without the paths that the router adds.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "C3 Serve",
        description = "Stores texts as latents of a language model, and returns them byte for byte. Errors are problem \
            details (RFC 9457). Every request may have the headers Request-Timeout (seconds, or a duration such as \
            250ms) and traceparent (W3C Trace Context)."
    ),
    paths(names::get, names::put, names::delete),
    components(schemas(model::ProgressBody, events::TextEvent, events::EndEvent)),
    tags(
        (name = "documents", description = "Store, list, describe and delete documents"),
        (name = "text", description = "Read texts"),
        (name = "search", description = "Find windows by their words"),
        (name = "names", description = "Names and labels, changed by compare-and-set"),
        (name = "latents", description = "Latents as safetensors files"),
        (name = "system", description = "Nodes and totals. Outside this description: /livez, /readyz and /metrics"),
    )
)]
pub(super) struct Api;

/// Returns the description as JSON.
pub(super) fn complete(mut api: Description) -> String {
    secure(&mut api);
    // A body that is a text may be missing: the text is then empty. Any bytes in UTF-8 are a text, so it has no schema.
    let items = api.paths.paths.values_mut();
    let operations = items.flat_map(|item| [&mut item.put, &mut item.post]).flatten();
    for body in operations.filter_map(|operation| operation.request_body.as_mut()) {
        if let RefOr::T(body) = body
            && let Some(RefOr::T(text)) = body.content.get_mut("text/plain")
        {
            text.schema = None;
            body.required = Some(Required::False);
        }
    }
    api.to_json().expect("a description consists of strings, numbers, lists and maps")
}

/// Adds the security scheme, and the scope that each operation requires.
fn secure(api: &mut Description) {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("API key or JWT");
    let help = "Needed if the gateway has access control. A key has scopes: read, write, delete, admin.";
    let scheme = SecurityScheme::Http(scheme.description(Some(help)).build());
    api.components.get_or_insert_default().add_security_scheme(SCHEME, scheme);
    for (path, item) in &mut api.paths.paths {
        let operations = [
            ("GET", &mut item.get),
            ("PUT", &mut item.put),
            ("POST", &mut item.post),
            ("PATCH", &mut item.patch),
            ("DELETE", &mut item.delete),
        ];
        for (method, operation) in operations {
            let (Some(operation), Some(required)) = (operation, requirement(&format!("{method} {path}"))) else {
                continue;
            };
            let scopes = match required {
                Requirement::Open => continue,
                Requirement::Key => Vec::new(),
                Requirement::Scope(scope) => vec![scope.as_str()],
            };
            operation.security = Some(vec![SecurityRequirement::new(SCHEME, scopes), SecurityRequirement::default()]);
        }
    }
}

/// Returns the OpenAPI description.
pub(super) async fn openapi(State(api): State<Arc<str>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], api.to_string())
}

/// Returns a page that shows the OpenAPI description.
pub(super) async fn page() -> impl IntoResponse {
    ([CONTENT_SECURITY_POLICY], Html(include_str!("docs.html")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_described_operation_has_a_requirement() {
        let api: serde_json::Value = serde_json::from_str(&complete(super::super::description())).unwrap();
        let mut operations = 0;
        for (path, item) in api["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = format!("{} {path}", method.to_uppercase());
                assert!(requirement(&name).is_some(), "{name} has no requirement");
                assert!(operation["security"].is_array(), "{name}");
                operations += 1;
            }
        }
        assert!(operations >= 23, "{operations}");
    }
}
