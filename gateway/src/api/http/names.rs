//! Names and labels of documents. Their version tokens are entity tags, with which callers make changes conditional.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use c3_types::{DocumentLabels, DocumentName, Expected, Labels, NamedDocument, Namespace};
use serde::Deserialize;
use utoipa::IntoParams;

use super::conditional::{Condition, Precondition, check_read, etag, etag_value};
use super::documents::{RefPath, page_size};
use super::model::{IdBody, LabelsBody, NameBody, NamesBody, ProblemBody};
use super::options::{PatchLabelsBody, ReplaceLabelsBody, SetNameBody};
use super::reply::{Failure, Json, Path, Query, Reply, Tenant};
use crate::cursor::Cursor;
use crate::documents::names::{LabelsChange, Removal};
use crate::error::Error;
use crate::state::Gateway;

/// The name in the path.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct NamePath {
    /// Namespace, usually `default`.
    #[param(min_length = 1, max_length = 72, example = "default")]
    namespace: String,
    /// Name. It may contain `/`.
    #[param(min_length = 1, max_length = 72, example = "book")]
    name: String,
}

impl NamePath {
    fn name(self) -> Result<DocumentName, Failure> {
        Ok(DocumentName::new(self.namespace.parse::<Namespace>()?, self.name)?)
    }
}

/// Returns a name and its document.
#[utoipa::path(
    get, operation_id = "get_name", path = "/v1/names/{namespace}/{name}", tag = "names",
    params(NamePath, ("if-none-match" = Option<String>, Header, description = "Version tokens that the caller has")),
    responses(
        (status = 200, description = "The name", body = NameBody, headers(("etag" = String))),
        (status = 304, description = "The caller has the current version", headers(("etag" = String))),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(Tenant(gateway): Tenant, Path(path): Path<NamePath>, headers: HeaderMap) -> Reply {
    let named = gateway.get_name(&path.name()?).await?;
    conditional(&headers, &named.token, NameBody::from(&named))
}

/// Points a name at a document.
///
/// With `If-Match: "TOKEN"`, only if the name has this version; with `If-None-Match: *`, only if it does not exist.
#[utoipa::path(
    put, operation_id = "put_name", path = "/v1/names/{namespace}/{name}", tag = "names",
    params(
        NamePath,
        ("if-match" = Option<String>, Header, description = "Version token that the name must have"),
        ("if-none-match" = Option<String>, Header, description = "`*`: the name must not exist"),
    ),
    request_body(content = SetNameBody),
    responses(
        (status = 200, description = "The name", body = NameBody, headers(("etag" = String))),
        (status = 412, description = "The name has another version; `token` has it", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put(
    Tenant(gateway): Tenant,
    Path(path): Path<NamePath>,
    headers: HeaderMap,
    Json(body): Json<SetNameBody>,
) -> Reply {
    let name = path.name()?.checked_as_new()?;
    let expected = expected_name(&gateway, &name, &headers).await?;
    let named = gateway.set_name(&name, &body.id, &expected).await?;
    Ok((tagged(&named.token), Json(NameBody::from(&named))).into_response())
}

/// Removes a name. The document stays.
#[utoipa::path(
    delete, operation_id = "delete_name", path = "/v1/names/{namespace}/{name}", tag = "names",
    params(NamePath, ("if-match" = Option<String>, Header, description = "Version token that the name must have")),
    responses(
        (status = 200, description = "The id of the document that the name pointed at", body = IdBody),
        (status = 412, description = "The name has another version; `token` has it", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(Tenant(gateway): Tenant, Path(path): Path<NamePath>, headers: HeaderMap) -> Reply {
    let name = path.name()?;
    let expected = expected_name(&gateway, &name, &headers).await?;
    let id = gateway.remove_name(&name, &expected).await?.to_string();
    Ok(Json(IdBody { id }).into_response())
}

/// Filters of a list of names.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NamesParameters {
    /// Namespace; default: `default`.
    #[param(nullable = false, min_length = 1, max_length = 72)]
    namespace: Option<String>,
    /// Beginning of the names.
    #[param(nullable = false, min_length = 1)]
    prefix: Option<String>,
    /// Maximum names of a page.
    #[param(nullable = false, minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before. The filters must be the same.
    #[param(nullable = false, min_length = 1)]
    cursor: Option<String>,
}

/// Lists names.
///
/// Names are sorted within a page. The pages are in no particular order.
#[utoipa::path(
    get, operation_id = "list_names", path = "/v1/names", tag = "names", params(NamesParameters),
    responses(
        (status = 200, description = "A page of names", body = NamesBody),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(Tenant(gateway): Tenant, Query(parameters): Query<NamesParameters>) -> Reply {
    let NamesParameters { namespace, prefix, limit, cursor } = parameters;
    let namespace = namespace.as_deref().map(str::parse::<Namespace>).transpose()?.unwrap_or_default();
    let prefix = prefix.unwrap_or_default();
    let listing = Cursor::of_listing("names", &(&namespace, &prefix));
    let after = cursor.as_deref().map(|cursor| listing.position(cursor)).transpose()?;
    let page = gateway.list_names(&namespace, &prefix, after.as_deref(), page_size(limit)?).await?;
    let next = page.next.as_deref().map(|next| listing.cursor(next));
    Ok(Json(NamesBody::new(&page, next)).into_response())
}

/// Returns the labels of a document.
#[utoipa::path(
    get, path = "/v1/documents/{ref}/labels", tag = "names",
    params(RefPath, ("if-none-match" = Option<String>, Header, description = "Version tokens that the caller has")),
    responses(
        (status = 200, description = "The labels", body = LabelsBody, headers(("etag" = String))),
        (status = 304, description = "The caller has the current version", headers(("etag" = String))),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get_labels(Tenant(gateway): Tenant, Path(reference): Path<String>, headers: HeaderMap) -> Reply {
    let (document, token) = gateway.stat(&reference).await?;
    let token = token.unwrap_or_default();
    let labels = DocumentLabels { id: document.id, labels: document.labels, token };
    conditional(&headers, &labels.token, LabelsBody::from(&labels))
}

/// Replaces all labels of a document.
#[utoipa::path(
    put, path = "/v1/documents/{ref}/labels", tag = "names",
    params(
        RefPath,
        ("if-match" = Option<String>, Header, description = "Version token that the labels must have"),
        ("if-none-match" = Option<String>, Header, description = "`*`: there must be no labels"),
    ),
    request_body(content = ReplaceLabelsBody, example = json!({ "lang": "en" })),
    responses(
        (status = 200, description = "The labels", body = LabelsBody, headers(("etag" = String))),
        (status = 412, description = "The labels have another version; `token` has it", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn replace_labels(
    Tenant(gateway): Tenant,
    Path(reference): Path<String>,
    headers: HeaderMap,
    Json(body): Json<ReplaceLabelsBody>,
) -> Reply {
    change_labels(&gateway, &reference, &headers, Labels::new(body.0)?, Removal::All).await
}

/// Changes some labels of a document.
///
/// The body is a JSON merge patch (RFC 7396): a text sets a label, null removes it.
#[utoipa::path(
    patch, path = "/v1/documents/{ref}/labels", tag = "names",
    params(RefPath, ("if-match" = Option<String>, Header, description = "Version token that the labels must have")),
    request_body(content = PatchLabelsBody, example = json!({ "lang": "en", "draft": null })),
    responses(
        (status = 200, description = "All labels", body = LabelsBody, headers(("etag" = String))),
        (status = 412, description = "The labels have another version; `token` has it", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn patch_labels(
    Tenant(gateway): Tenant,
    Path(reference): Path<String>,
    headers: HeaderMap,
    Json(body): Json<PatchLabelsBody>,
) -> Reply {
    let (set, remove): (Vec<_>, Vec<_>) = body.0.into_iter().partition(|(_, value)| value.is_some());
    let set = set.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let remove = Removal::Keys(remove.into_iter().map(|(key, _)| key).collect());
    change_labels(&gateway, &reference, &headers, Labels::new(set)?, remove).await
}

/// Removes all labels of a document.
#[utoipa::path(
    delete, path = "/v1/documents/{ref}/labels", tag = "names",
    params(RefPath, ("if-match" = Option<String>, Header, description = "Version token that the labels must have")),
    responses(
        (status = 200, description = "No labels", body = LabelsBody),
        (status = 412, description = "The labels have another version; `token` has it", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete_labels(Tenant(gateway): Tenant, Path(reference): Path<String>, headers: HeaderMap) -> Reply {
    change_labels(&gateway, &reference, &headers, Labels::default(), Removal::All).await
}

async fn change_labels(gateway: &Gateway, reference: &str, headers: &HeaderMap, set: Labels, remove: Removal) -> Reply {
    let expected = match Precondition::from_headers(headers)? {
        Precondition::Expected(expected) => expected,
        Precondition::Current { if_match, if_none_match } => {
            let (_, token) = gateway.stat(reference).await?;
            Precondition::with_current(if_match.as_ref(), if_none_match.as_ref(), token.as_deref())?
        }
    };
    let labels = gateway.set_labels(reference, &LabelsChange { set, remove, expected }).await?;
    Ok((tagged(&labels.token), Json(LabelsBody::from(&labels))).into_response())
}

/// Returns the precondition of a change of a name.
async fn expected_name(gateway: &Gateway, name: &DocumentName, headers: &HeaderMap) -> Result<Expected, Failure> {
    match Precondition::from_headers(headers)? {
        Precondition::Expected(expected) => Ok(expected),
        Precondition::Current { if_match, if_none_match } => {
            let token = match gateway.get_name(name).await {
                Ok(NamedDocument { token, .. }) => Some(token),
                Err(Error::NameNotFound(_) | Error::NamedDocumentDeleted { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            Precondition::with_current(if_match.as_ref(), if_none_match.as_ref(), token.as_deref())
        }
    }
}

/// Returns a representation with its version token, or status 304 if the caller has it. An empty token stands for none.
fn conditional(headers: &HeaderMap, token: &str, body: impl serde::Serialize) -> Reply<Response> {
    if token.is_empty() {
        return Ok(Json(body).into_response());
    }
    Ok(match check_read(headers, &etag(token))? {
        Condition::NotModified => (StatusCode::NOT_MODIFIED, tagged(token), ()).into_response(),
        Condition::Met => (tagged(token), Json(body)).into_response(),
    })
}

/// Returns the header of a version token. An empty token stands for none.
fn tagged(token: &str) -> Option<[(header::HeaderName, header::HeaderValue); 1]> {
    (!token.is_empty()).then(|| [(header::ETAG, etag_value(&etag(token)))])
}
