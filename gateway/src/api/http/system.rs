//! Nodes, totals and uploads.

use axum::extract::State;
use axum::response::IntoResponse;

use super::model::{NodeBody, NodesBody, ProblemBody, TotalsBody, UploadBody, UploadsBody};
use super::reply::{Json, Reply};
use crate::state::SharedGateway;

/// Lists the nodes that the gateway knows.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "system",
    responses(
        (status = 200, description = "The nodes", body = NodesBody),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn nodes(State(gateway): State<SharedGateway>) -> Reply {
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
pub(super) async fn totals(State(gateway): State<SharedGateway>) -> Reply {
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
pub(super) async fn uploads(State(gateway): State<SharedGateway>) -> Reply {
    let uploads = gateway.uploads().await?.iter().map(UploadBody::from).collect();
    Ok(Json(UploadsBody { uploads }).into_response())
}
