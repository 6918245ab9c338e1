//! Nodes, totals and uploads.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use c3_server::ErrorKind;

use super::model::{NodeBody, NodesBody, ProblemBody, TotalsBody, UploadBody, UploadsBody};
use super::reply::{Failure, Json, Reply, Tenant};
use crate::tenants::SharedTenants;

/// Lists the nodes that the gateway knows.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "system",
    responses(
        (status = 200, description = "The nodes", body = NodesBody),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn nodes(Tenant(gateway): Tenant) -> Reply {
    let nodes = gateway.router.nodes().iter().map(|node| NodeBody::from(&**node)).collect();
    let node_wait_ms = gateway.router.node_wait().as_millis() as u64;
    Ok(Json(NodesBody { nodes, node_wait_ms }).into_response())
}

/// Returns totals over all documents. Slow in a large store.
#[utoipa::path(
    get, path = "/v1/totals", tag = "system",
    responses(
        (status = 200, description = "The totals", body = TotalsBody),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn totals(Tenant(gateway): Tenant) -> Reply {
    Ok(Json(TotalsBody::from(gateway.totals().await?)).into_response())
}

/// Lists the uploads that can be resumed.
///
/// To resume one, send the same text again with its name as `upload`.
#[utoipa::path(
    get, path = "/v1/uploads", tag = "documents",
    responses(
        (status = 200, description = "The uploads", body = UploadsBody),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn uploads(Tenant(gateway): Tenant) -> Reply {
    let uploads = gateway.uploads().await?.iter().map(UploadBody::from).collect();
    Ok(Json(UploadsBody { uploads }).into_response())
}

/// Returns the metadata of RFC 9728, which tell clients where to get tokens. It is outside the description, because its
/// path is fixed by that standard.
pub(super) async fn resource_metadata(State(tenants): State<SharedTenants>, headers: HeaderMap) -> Reply {
    let metadata = tenants.control.as_ref().and_then(|control| control.resource_metadata(&headers));
    let missing = || Failure::new(ErrorKind::NotFound, "no issuer of tokens is configured: use an API key, if any");
    Ok(axum::Json(metadata.ok_or_else(missing)?).into_response())
}
