//! Nodes, totals and uploads.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use c3_proto::{FromWire, ToWire, pb};
use c3_routing::Node;
use c3_server::ErrorKind;
use c3_types::Cascade;
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{ProblemBody, TotalsBody, UploadBody, UploadsBody};
use super::reply::{Failure, Json, Reply, Tenant};
use crate::tenants::SharedTenants;

/// Nodes that the gateway knows.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct NodesBody {
    nodes: Vec<NodeBody>,
    /// Maximum milliseconds for which a call waits for a ready node.
    node_wait_ms: u64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
struct NodeBody {
    #[schema(example = "http://127.0.0.1:7301")]
    address: String,
    #[schema(example = "compressor")]
    stage: String,
    /// `ready`, `unreachable`, `not_serving` or `refused`.
    #[schema(example = "ready")]
    state: &'static str,
    /// Reason for a state other than `ready`; null if the node is ready.
    problem: Option<String>,
    calls_in_flight: u32,
    /// Self-description of the node; null if it has not described itself yet.
    description: Option<NodeDescriptionBody>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
struct NodeDescriptionBody {
    cascade: String,
    /// Fingerprint of the node's model: BLAKE3 hash of its configuration, tokenizer and weights.
    fingerprint: Option<String>,
    arithmetic: String,
    #[schema(example = "cpu")]
    device: String,
    /// Name, memory and compute capability of a GPU; null on a CPU.
    accelerator: Option<String>,
    version: String,
    ratio_min: u32,
    ratio_max: u32,
    ratio_default: u32,
    takes_prompt: bool,
    queued_tokens: u64,
    running_tokens: u64,
    /// Estimated time to compute the queued and running tokens.
    backlog_seconds: f64,
    /// Share of the last seconds in which the device computed, 0 to 1.
    busy_share: f64,
    /// Text tokens that the device compresses in a second; null before the first batch.
    compress_tokens_per_second: Option<f64>,
    /// Text tokens that the device verifies in a second; null before the first batch.
    verify_tokens_per_second: Option<f64>,
    /// Text tokens that the device decodes in a second; null before the first batch.
    decode_tokens_per_second: Option<f64>,
}

impl From<&Node> for NodeBody {
    fn from(node: &Node) -> Self {
        let stage = node.stage();
        let wire = node.to_wire();
        let state = match wire.state() {
            pb::NodeState::Ready => "ready",
            pb::NodeState::NotServing => "not_serving",
            pb::NodeState::Refused => "refused",
            pb::NodeState::Unreachable | pb::NodeState::Unspecified => "unreachable",
        };
        let describe = |description: pb::DescribeResponse| {
            let shape = description.shape.unwrap_or_default();
            let load = description.load.unwrap_or_default();
            let cascade = description.cascade.and_then(|cascade| Cascade::from_wire(cascade).ok());
            let rate = |tokens_per_second: f64| Some(tokens_per_second).filter(|&rate| rate > 0.0);
            NodeDescriptionBody {
                fingerprint: cascade.as_ref().map(|cascade| cascade.fingerprint(stage).to_string()),
                cascade: cascade.map(|cascade| cascade.name).unwrap_or_default(),
                arithmetic: description.arithmetic,
                device: description.device,
                accelerator: Some(description.accelerator).filter(|name| !name.is_empty()),
                version: description.version,
                ratio_min: shape.ratio_min,
                ratio_max: shape.ratio_max,
                ratio_default: shape.ratio_default,
                takes_prompt: shape.takes_prompt,
                queued_tokens: load.queued_tokens,
                running_tokens: load.running_tokens,
                backlog_seconds: load.backlog_seconds,
                busy_share: load.busy_share,
                compress_tokens_per_second: rate(load.compress_tokens_per_second),
                verify_tokens_per_second: rate(load.verify_tokens_per_second),
                decode_tokens_per_second: rate(load.decode_tokens_per_second),
            }
        };
        Self {
            address: wire.address,
            stage: stage.to_string(),
            state,
            problem: Some(wire.problem).filter(|problem| !problem.is_empty()),
            calls_in_flight: wire.calls_in_flight,
            description: wire.description.map(describe),
        }
    }
}

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
