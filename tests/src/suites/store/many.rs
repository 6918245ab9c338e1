//! Many small documents: they must need few files, and lists must be fast.

use std::time::Instant;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

use super::ops::{default_options, small_text, sweep};
use crate::harness::cluster::ClusterSpec;
use crate::harness::quantity::Quantity;

/// Number of concurrent puts.
const AT_ONCE: usize = 128;
/// Maximum number of files per document.
const FILES_SHARE: f64 = 0.1;
/// Maximum seconds to list 10,000 documents.
const LIST_SECONDS: f64 = 2.0;

/// Puts `count` documents of about 200 bytes concurrently, lists them and reads some; they must need few files and be
/// listed within [`LIST_SECONDS`] seconds.
pub async fn many(count: usize) -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::default().start().await?;
    let api = cluster.api()?;
    let started = Instant::now();
    let puts = stream::iter(0..count).map(|number| {
        let api = api.clone();
        async move { api.put(small_text(number).as_bytes(), default_options()).await.map(drop) }
    });
    puts.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let put_seconds = started.elapsed().as_secs_f64();
    let files = cluster.objects()?.len();

    cluster.restart_gateway().await?;
    let api = cluster.api()?;
    let started = Instant::now();
    let listed = api.ids().await?.len();
    let list_seconds = started.elapsed().as_secs_f64();
    sweep(&api, 0).await?;
    let swept_files = cluster.objects()?.len();
    let mut wrong = 0;
    for number in (0..count).step_by(count.div_ceil(20)) {
        let text = small_text(number);
        let id = c3_types::DocumentId::of(text.as_bytes()).to_string();
        wrong += usize::from(!api.get(&id).await.is_ok_and(|got| got.text == text.as_bytes()));
    }
    let most = count as f64 * FILES_SHARE;
    Ok(vec![
        Quantity::reported(format!("many-put-seconds ({count} documents)"), put_seconds),
        Quantity::at_most("many-files", files as f64, most),
        Quantity::at_most("many-files-after-a-sweep", swept_files as f64, most),
        Quantity::equal("many-listed", listed, count),
        Quantity::at_most("many-list-seconds", list_seconds, LIST_SECONDS),
        Quantity::equal("many-wrong", wrong, 0),
    ])
}
