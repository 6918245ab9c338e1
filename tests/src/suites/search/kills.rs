//! A gateway that is killed while it builds its index finds everything after a restart.

use std::time::Duration;

use anyhow::Result;
use c3_proto::pb;
use tokio::time::sleep;

use super::phrases::{finds, phrase, store_texts};
use super::wait_until_found;
use crate::harness::cluster::ClusterSpec;
use crate::harness::quantity::Quantity;
use crate::suites::store::ops::Rng;

/// Maximum time after the start at which the gateway is killed.
const KILLED_WITHIN_MS: usize = 300;
/// Phrases that must be found after the last restart.
const PHRASES: usize = 30;

/// Kills the gateway `count` times, half of the time while a put is in progress.
pub(super) async fn kills(count: usize) -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::default().start().await?;
    let texts = store_texts(&cluster.api()?).await?;
    let mut rng = Rng::new(11);
    let mut ids = Vec::new();
    for number in 0..count {
        cluster.restart_gateway().await?;
        let api = cluster.api()?;
        let text = format!("A text that was put before kill {number}.");
        let put = async { api.put(text.as_bytes(), pb::WriteOptions::default()).await };
        let pause = sleep(Duration::from_millis(rng.below(KILLED_WITHIN_MS) as u64));
        if number % 2 == 0 {
            tokio::select! {
                stored = put => {
                    let document = stored.ok().and_then(|stored| stored.document);
                    ids.extend(document.map(|document| document.hex_id));
                }
                () = pause => {}
            }
        } else {
            pause.await;
        }
    }
    cluster.restart_gateway().await?;
    let api = cluster.api()?;
    wait_until_found(&api, &Vec::from_iter(texts.iter().map(|text| text.id.clone()))).await?;
    let mut missed = 0;
    for number in 0..PHRASES {
        let stored = &texts[number % texts.len()];
        missed += usize::from(!finds(&api, stored, &phrase(stored, &mut rng, number % 3 == 0)).await?);
    }
    let mut lost = 0;
    for id in &ids {
        let query = "put before kill".to_owned();
        let request = pb::SearchRequest { query, documents: vec![id.clone()], ..Default::default() };
        lost += usize::from(super::search(&api, request).await?.hits.is_empty());
    }
    Ok(vec![
        Quantity::reported("kills-puts-acknowledged", ids.len()),
        Quantity::equal("kills-phrases-missed", missed, 0),
        Quantity::equal("kills-documents-not-found", lost, 0),
    ])
}
