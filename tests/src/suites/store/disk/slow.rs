//! A disk that takes 200 ms to open, create, sync, rename or delete a file.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::join_all;

use super::put;
use crate::harness::cluster::ClusterSpec;
use crate::harness::quantity::Quantity;
use crate::suites::store::ops::{self, medium_text, small_text, sweep};
use crate::suites::store::strace::Strace;

/// Delay per system call, in microseconds.
const DELAY_US: u64 = 200_000;
/// Delayed system calls.
const OPERATIONS: &str = "openat,mkdir,mkdirat,fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat";
/// Number of small documents that are put one after another. As many others are then put concurrently.
const PUTS: usize = 5;

/// Puts, reads, deletes and sweeps documents on the slow disk; no operation may fail, and no text may be lost.
pub(super) async fn slow() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::with_gateway_args(&super::NO_CACHE).start().await?;
    let api = cluster.api()?;
    let fast = Instant::now();
    put(&api, &small_text(100)).await?;
    let fast = fast.elapsed();
    let (trace, inject) = (format!("trace={OPERATIONS}"), format!("inject={OPERATIONS}:delay_enter={DELAY_US}"));
    let args = ["-e", &trace, "-e", &inject, "-o", "/dev/null"];
    let strace = Strace::attach(&cluster.gateway, &args).await?;

    let texts = Vec::from_iter((0..PUTS).map(small_text).chain([medium_text(PUTS)]));
    let (mut kept, mut took, mut failed) = (Vec::new(), Vec::new(), 0);
    for text in &texts {
        let started = Instant::now();
        match put(&api, text).await {
            Ok(id) => kept.push((id, text.clone())),
            Err(_) => failed += 1,
        }
        took.push(started.elapsed());
    }
    took.truncate(PUTS);
    took.sort();
    let together = Vec::from_iter((200..200 + PUTS).map(small_text));
    for (stored, text) in join_all(together.iter().map(|text| put(&api, text))).await.into_iter().zip(&together) {
        match stored {
            Ok(id) => kept.push((id, text.clone())),
            Err(_) => failed += 1,
        }
    }
    let (gone, _) = kept.swap_remove(0);
    failed += usize::from(ops::delete(&api, &gone).await.is_err());
    failed += usize::from(sweep(&api, 0).await.is_err());
    let mut intact = 0;
    for (id, text) in &kept {
        intact += usize::from(api.get(id).await.is_ok_and(|got| got.text == text.as_bytes()));
    }
    strace.detach()?;
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    Ok(vec![
        Quantity::reported("disk-slow-put-p50-ms", ms(took[PUTS / 2])),
        Quantity::reported("disk-slow-put-ms-before", ms(fast)),
        Quantity::holds("disk-slow-is-slow", took[0] > Duration::from_micros(DELAY_US), "longer than one delay"),
        Quantity::equal("disk-slow-failed", failed, 0),
        Quantity::equal("disk-slow-intact", intact, kept.len()),
        Quantity::equal("disk-slow-findings-after", ops::fsck(&api, false).await?.len(), 0),
    ])
}
