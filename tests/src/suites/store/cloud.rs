//! A real S3 server behind a network that throttles, stalls and loses answers.

use std::time::Duration;

use anyhow::{Context, Result};
use tonic::Code;

use super::s3::S3;
use crate::calls::id_of;
use crate::cluster::Plan;
use crate::fixtures::stretch;
use crate::proxy::{Faults, Proxy};
use crate::row::Row;

/// What the proxy draws its faults from.
const SEED: u64 = 6;

/// Documents put, read and deleted through the faults: all that was acknowledged is intact, all that was deleted is gone.
pub async fn faulty_s3(text: &str, documents: usize) -> Result<Vec<Row>> {
    let s3 = S3::start().await?;
    let delay = Duration::from_secs(3);
    // Each of them on about one request in twenty; a slow answer comes after the gateway's time-out.
    let faults = Faults { throttled: 0.05, answer_lost: 0.05, reset: 0.05, slow: 0.02, delay };
    let proxy = Proxy::before(s3.address().to_owned(), faults, SEED).await?;

    let plan = Plan::with_gateway_args(&["--store-timeout-ms", "1500"]);
    let mut cluster = plan.over_s3(&proxy.address).start().await?;
    let calls = cluster.calls()?;
    let (mut kept, mut failed) = (Vec::new(), 0);
    for number in 0..documents {
        let text = format!("{number}. {}", stretch(text, number, 2_000));
        match calls.put_at(text.as_bytes(), 20).await {
            Ok(put) => kept.push((id_of(&put.document.context("no document")?), text)),
            Err(_) => failed += 1,
        }
    }
    let acknowledged = kept.len();
    let mut deleted = kept.split_off(acknowledged - acknowledged / 4);
    for (id, _) in &deleted {
        cluster.calls()?.raw().delete(c3_proto::pb::DeleteRequest { id: id.clone() }).await?;
    }
    // Another gateway remembers nothing.
    cluster.restart_gateway().await?;
    let calls = cluster.calls()?;
    let (mut intact, mut gone) = (0, 0);
    for (id, text) in &kept {
        intact += usize::from(calls.get(id).await.is_ok_and(|got| got.text == text.as_bytes()));
    }
    for (id, _) in deleted.drain(..) {
        gone += usize::from(calls.get(&id).await.is_err_and(|status| status.code() == Code::NotFound));
    }
    Ok(vec![
        Row::seen("s3-seed", SEED, true, "told only"),
        Row::at_least("s3-faults-dealt", proxy.dealt() as f64, documents as f64 / 2.0),
        Row::equal("s3-puts-failed", failed, 0),
        Row::equal("s3-documents-intact", intact, kept.len()),
        Row::equal("s3-deleted-gone", gone, acknowledged / 4),
    ])
}
