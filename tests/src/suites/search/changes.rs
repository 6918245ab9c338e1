//! Puts, deletions and searches through two gateways over one store.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use c3_proto::pb;
use tokio::time::sleep;

use super::search;
use crate::harness::cluster::ClusterSpec;
use crate::harness::gateway_api::GatewayApi;
use crate::harness::quantity::Quantity;
use crate::suites::store::ops::Rng;
use crate::suites::store::s3::S3;

/// Operations of a run.
const OPERATIONS: usize = 400;
/// Time within which the gateway that made a change must show it, and within which another one must.
const OWN_WITHIN: Duration = Duration::from_secs(2);
const OTHERS_WITHIN: Duration = Duration::from_secs(30);
/// Seed of the operations.
const SEED: u64 = 20_261_201;

/// Last change of a document.
#[derive(Clone, Debug)]
struct Change {
    id: String,
    is_stored: bool,
    /// Gateway that made the change.
    gateway: usize,
    acknowledged: Instant,
}

pub(super) async fn in_folder() -> Result<Vec<Quantity>> {
    run(ClusterSpec::default(), "folder").await
}

pub(super) async fn in_s3() -> Result<Vec<Quantity>> {
    let s3 = S3::start().await?;
    run(ClusterSpec::default().over_s3(s3.address()), "s3").await
}

async fn run(spec: ClusterSpec, store: &str) -> Result<Vec<Quantity>> {
    let cluster = spec.start().await?;
    let other = cluster.start_second_gateway().await?;
    let apis = [cluster.api()?, GatewayApi::to(&other)?];
    let mut rng = Rng::new(SEED);
    let mut documents: BTreeMap<String, Change> = BTreeMap::new();
    let (mut late, mut resurrected) = (Vec::new(), Vec::new());
    for number in 0..OPERATIONS {
        let gateway = rng.below(2);
        let api = &apis[gateway];
        match rng.below(4) {
            0 => {
                let word = format!("marker{}", if rng.below(3) == 0 { rng.below(number + 1) } else { number });
                let text = format!("A short text about {word}.");
                let stored = api.put(text.as_bytes(), pb::WriteOptions::default()).await?;
                let id = stored.document.context("a put returns a document")?.hex_id;
                let change = Change { id, is_stored: true, gateway, acknowledged: Instant::now() };
                documents.insert(word, change);
            }
            1 => {
                let stored = Vec::from_iter(documents.iter().filter(|(_, change)| change.is_stored));
                let Some(&(word, change)) = stored.get(rng.below(stored.len().max(1))) else { continue };
                let (word, id) = (word.clone(), change.id.clone());
                api.stub().delete(pb::DeleteRequest { id: id.clone() }).await?;
                let change = Change { id, is_stored: false, gateway, acknowledged: Instant::now() };
                documents.insert(word, change);
            }
            _ => {
                let Some((word, change)) = documents.iter().nth(rng.below(documents.len().max(1))) else { continue };
                let since = change.acknowledged.elapsed();
                let is_found = is_found(api, word, &change.id).await?;
                if !change.is_stored && is_found && change.gateway == gateway {
                    resurrected.push(word.clone());
                }
                let within = if change.gateway == gateway { OWN_WITHIN } else { OTHERS_WITHIN };
                if since > within && is_found != change.is_stored {
                    late.push(format!("{word}, {:.1} s", since.as_secs_f64()));
                }
            }
        }
    }
    // Every change is old enough afterwards.
    let newest = documents.values().map(|change| change.acknowledged.elapsed()).min().unwrap_or_default();
    sleep(OTHERS_WITHIN.saturating_sub(newest)).await;
    for (word, change) in &documents {
        for api in &apis {
            if is_found(api, word, &change.id).await? != change.is_stored {
                late.push(format!("{word} at the end"));
            }
        }
    }
    let name = |quantity: &str| format!("changes-{store}-{quantity}");
    Ok(vec![
        Quantity::reported(name("seed"), SEED),
        Quantity::observed(name("documents"), documents.len(), documents.len() > 50, "> 50"),
        Quantity::equal(name("found-after-deletion"), resurrected, Vec::new()),
        Quantity::equal(name("late"), late, Vec::new()),
    ])
}

async fn is_found(api: &GatewayApi, word: &str, id: &str) -> Result<bool> {
    let page = search(api, pb::SearchRequest { query: word.to_owned(), ..Default::default() }).await?;
    Ok(page.hits.iter().any(|hit| hit.hex_document == id))
}
