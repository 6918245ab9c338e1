//! A disk that takes 200 ms for every operation that changes it or opens a file.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::join_all;

use super::put;
use crate::cluster::Plan;
use crate::row::Row;
use crate::store::ops::{self, objects_text, small_text, sweep};
use crate::store::strace::Strace;

/// What each operation takes longer, as strace takes it: microseconds.
const DELAY_US: u64 = 200_000;
/// The operations.
const OPERATIONS: &str =
    "openat,mkdir,mkdirat,fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat";
/// Small documents put one after another, then as many at once.
const PUTS: usize = 5;

/// Puts, reads, a delete and a sweep, none of which fails.
pub(super) async fn slow() -> Result<Vec<Row>> {
    let cluster = Plan::with_gateway_args(&super::NO_CACHE).start().await?;
    let calls = cluster.calls()?;
    let fast = Instant::now();
    put(&calls, &small_text(100)).await?;
    let fast = fast.elapsed();
    let (trace, inject) =
        (format!("trace={OPERATIONS}"), format!("inject={OPERATIONS}:delay_enter={DELAY_US}"));
    let args = ["-e", &trace, "-e", &inject, "-o", "/dev/null"];
    let strace = Strace::attach(&cluster.gateway, &args).await?;

    let texts = Vec::from_iter((0..PUTS).map(small_text).chain([objects_text(PUTS)]));
    let (mut kept, mut took, mut failed) = (Vec::new(), Vec::new(), 0);
    for text in &texts {
        let begun = Instant::now();
        match put(&calls, text).await {
            Ok(id) => kept.push((id, text.clone())),
            Err(_) => failed += 1,
        }
        took.push(begun.elapsed());
    }
    took.truncate(PUTS);
    took.sort();
    let together = Vec::from_iter((200..200 + PUTS).map(small_text));
    for (stored, text) in
        join_all(together.iter().map(|text| put(&calls, text))).await.into_iter().zip(&together)
    {
        match stored {
            Ok(id) => kept.push((id, text.clone())),
            Err(_) => failed += 1,
        }
    }
    let (gone, _) = kept.swap_remove(0);
    failed += usize::from(ops::delete(&calls, &gone).await.is_err());
    failed += usize::from(sweep(&calls, 0).await.is_err());
    let mut intact = 0;
    for (id, text) in &kept {
        intact += usize::from(calls.get(id).await.is_ok_and(|got| got.text == text.as_bytes()));
    }
    strace.detach()?;
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    Ok(vec![
        Row::seen("disk-slow-put-p50-ms", ms(took[PUTS / 2]), true, "told only"),
        Row::seen("disk-slow-put-ms-before", ms(fast), true, "told only"),
        Row::holds("disk-slow-is-slow", took[0] > Duration::from_micros(DELAY_US), "over one delay"),
        Row::equal("disk-slow-failed", failed, 0),
        Row::equal("disk-slow-intact", intact, kept.len()),
        Row::equal("disk-slow-findings-after", ops::check(&calls, false).await?.len(), 0),
    ])
}
