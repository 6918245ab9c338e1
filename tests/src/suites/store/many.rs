//! Many small documents: few files, and soon listed.

use std::time::Instant;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

use super::ops::{small_text, sweep, written};
use crate::cluster::{Plan, files_under};
use crate::row::Row;

/// Puts at once.
const AT_ONCE: usize = 128;
/// Files that 10,000 documents may take.
const FILES_SHARE: f64 = 0.1;
/// Seconds that listing 10,000 documents may take.
const LIST_SECONDS: f64 = 2.0;

/// Puts `count` documents of about 200 bytes side by side, lists them, and reads some.
pub async fn many(count: usize) -> Result<Vec<Row>> {
    let mut cluster = Plan::default().start().await?;
    let calls = cluster.calls()?;
    let begun = Instant::now();
    let puts = stream::iter(0..count).map(|number| {
        let calls = calls.clone();
        async move { calls.put(small_text(number).as_bytes(), written()).await.map(drop) }
    });
    puts.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let put_seconds = begun.elapsed().as_secs_f64();
    let files = files_under(&cluster.data())?.len();

    cluster.restart_gateway().await?;
    let calls = cluster.calls()?;
    let begun = Instant::now();
    let listed = calls.ids().await?.len();
    let list_seconds = begun.elapsed().as_secs_f64();
    sweep(&calls, 0).await?;
    let swept_files = files_under(&cluster.data())?.len();
    let mut wrong = 0;
    for number in (0..count).step_by(count.div_ceil(20)) {
        let text = small_text(number);
        let id = c3_proto::DocumentId::of(text.as_bytes()).to_string();
        wrong += usize::from(!calls.get(&id).await.is_ok_and(|got| got.text == text.as_bytes()));
    }
    let most = count as f64 * FILES_SHARE;
    Ok(vec![
        Row::seen(format!("many-put-seconds ({count} documents)"), put_seconds, true, "told"),
        Row::at_most("many-files", files as f64, most),
        Row::at_most("many-files-after-a-sweep", swept_files as f64, most),
        Row::equal("many-listed", listed, count),
        Row::at_most("many-list-seconds", list_seconds, LIST_SECONDS),
        Row::equal("many-wrong", wrong, 0),
    ])
}
