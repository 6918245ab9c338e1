//! An S3 server behind a network that throttles, delays and loses responses.

use std::time::Duration;

use anyhow::{Context, Result};
use tonic::Code;

use super::s3::S3;
use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures::stretch;
use crate::harness::gateway_api::id_of;
use crate::harness::proxy::{FaultRates, Proxy};
use crate::harness::quantity::Quantity;

/// Seed of the proxy's faults.
const SEED: u64 = 6;

/// Puts, deletes and reads documents while the network to S3 is faulty; every put must succeed and last, and deleted
/// documents must stay deleted.
pub async fn s3_faults(text: &str, documents: usize) -> Result<Vec<Quantity>> {
    let s3 = S3::start().await?;
    let delay = Duration::from_secs(3);
    // `delay` exceeds the gateway's `--store-timeout`.
    let faults = FaultRates { throttled: 0.05, answer_lost: 0.05, reset: 0.05, slow: 0.02, delay };
    let proxy = Proxy::before(s3.address().to_owned(), faults, SEED).await?;

    let spec = ClusterSpec::with_gateway_args(&["--store-timeout", "1500ms"]);
    let mut cluster = spec.over_s3(&proxy.address).start().await?;
    let api = cluster.api()?;
    let (mut kept, mut failed) = (Vec::new(), 0);
    for number in 0..documents {
        let text = format!("{number}. {}", stretch(text, number, 2_000));
        match api.put_at(text.as_bytes(), 20).await {
            Ok(put) => kept.push((id_of(&put.document.context("no document")?), text)),
            Err(_) => failed += 1,
        }
    }
    let acknowledged = kept.len();
    let mut deleted = kept.split_off(acknowledged - acknowledged / 4);
    for (id, _) in &deleted {
        cluster.api()?.stub().delete(c3_proto::pb::DeleteRequest { id: id.clone() }).await?;
    }
    // The restart discards the gateway's caches.
    cluster.restart_gateway().await?;
    let api = cluster.api()?;
    let (mut intact, mut gone) = (0, 0);
    for (id, text) in &kept {
        intact += usize::from(api.get(id).await.is_ok_and(|got| got.text == text.as_bytes()));
    }
    for (id, _) in deleted.drain(..) {
        gone += usize::from(api.get(&id).await.is_err_and(|status| status.code() == Code::NotFound));
    }
    Ok(vec![
        Quantity::reported("s3-seed", SEED),
        Quantity::at_least("s3-faults-injected", proxy.injected() as f64, documents as f64 / 2.0),
        Quantity::equal("s3-puts-failed", failed, 0),
        Quantity::equal("s3-documents-intact", intact, kept.len()),
        Quantity::equal("s3-deleted-gone", gone, acknowledged / 4),
    ])
}
