//! Suite of search: recall, size and cost of sketches, speed at ten million tokens, phrases, changes and kills.

mod changes;
mod kills;
mod phrases;
mod questions;
mod recall;
mod scale;
pub mod table;

use std::time::Duration;

use anyhow::Result;
use c3_proto::pb;
use tonic::Status;

use crate::harness::gateway_api::GatewayApi;
use crate::harness::wait::until;

/// Maximum time until a gateway has read all sketches after its start.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// Returns a page of hits without snippets.
async fn search(api: &GatewayApi, request: pb::SearchRequest) -> Result<pb::SearchResponse, Status> {
    Ok(api.stub().search(request).await?.into_inner())
}

/// Waits until the gateway has read all sketches, and finds each of these documents.
async fn wait_until_found(api: &GatewayApi, ids: &[String]) -> Result<()> {
    for id in ids {
        until("a document to be found", READ_LIMIT, async || {
            // The words are in all texts of the suite.
            let query = "the of 的 一 fn let".to_owned();
            let request = pb::SearchRequest { query, documents: vec![id.clone()], ..Default::default() };
            let page = search(api, request).await.ok()?;
            (!page.hits.is_empty() && !page.partial).then_some(())
        })
        .await?;
    }
    Ok(())
}
