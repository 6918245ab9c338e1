//! Data keys and the master key are rotated under load on two gateways.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;
use tokio::time::sleep;

use super::content::Content;
use super::refusals::refusal;
use super::{c3, master_key, succeed, with_keys};
use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures::Corpus;
use crate::harness::gateway_api::GatewayApi;
use crate::harness::quantity::Quantity;
use crate::suites::store::ops::{default_options, fsck, small_text};

const WORKERS: usize = 4;
/// Time after which every gateway encrypts with a new data key; they list the keys every 15 s.
const ADOPTED: Duration = Duration::from_secs(17);

/// Rotates both keys and encrypts all objects again while documents are put and read; no call may fail.
pub(super) async fn rotation(corpus: Corpus) -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-rotation-")?;
    let [old, new] = [master_key(folder.path(), 1)?, master_key(folder.path(), 2)?];
    let spec = ClusterSpec { gateway_args: with_keys(&[&old]), ..ClusterSpec::default() };
    let cluster = spec.start().await?;
    let content = Content::put(&cluster.api()?, 3000).await?;
    // Both master keys are given before the rotation.
    let both = ClusterSpec { gateway_args: with_keys(&[&new, &old]), ..ClusterSpec::default() };
    let both = ClusterSpec { data: Some(cluster.data().display().to_string()), ..both }.start().await?;
    let other = both.start_second_gateway().await?;
    let apis = [both.api()?, GatewayApi::to(&other)?];

    let (stop, calls, failed) =
        (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let workers = Vec::from_iter((0..WORKERS).map(|worker| {
        let (stop, calls, failed) = (Arc::clone(&stop), Arc::clone(&calls), Arc::clone(&failed));
        let (apis, content) = (apis.clone(), content.clone());
        tokio::spawn(async move {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (writer, reader) = (&apis[number % 2], &apis[(number + 1) % 2]);
                let text = small_text(1_000_000 * (worker + 1) + number);
                let put = writer.put(text.as_bytes(), default_options()).await;
                let id = c3_types::DocumentId::of(text.as_bytes()).to_string();
                // The other gateway reads the new document, which may be encrypted with a key that it does not know.
                let read = reader.get(&id).await.is_ok_and(|got| got.text == text.as_bytes());
                let all_right = put.is_ok() && read && content.reads_back(reader, number).await;
                calls.fetch_add(3, Ordering::Relaxed);
                failed.fetch_add(u64::from(!all_right), Ordering::Relaxed);
            }
        })
    }));
    let data = cluster.data();
    let rounds = if corpus.full { 3 } else { 1 };
    let mut printed = String::new();
    for _ in 0..rounds {
        printed = succeed(c3(&["store", "rotate"], &data, &[&new, &old])).await?;
        sleep(ADOPTED).await;
        succeed(c3(&["store", "encrypt", "--again"], &data, &[&new, &old])).await?;
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await?;
    }
    let keys = succeed(c3(&["store", "keys"], &data, &[&new])).await?;
    let with_old = refusal(&data, &with_keys(&[&old])).await?;
    let after = ClusterSpec { gateway_args: with_keys(&[&new]), ..ClusterSpec::default() };
    let after = ClusterSpec { data: Some(data.display().to_string()), ..after }.start().await?;
    let (calls, failed) = (calls.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    Ok(vec![
        Quantity::observed("rotation-calls", calls, calls > 0, "> 0"),
        Quantity::equal("rotation-calls-failed", failed, 0),
        Quantity::observed("rotation-report", printed.trim(), printed.contains("is new"), "names the new key"),
        Quantity::observed("rotation-keys", keys.trim(), keys.contains(&format!("data key {}", rounds + 1)), "current"),
        Quantity::holds("rotation-old-master-refused", with_old.contains("are wrapped by master key"), "clear refusal"),
        Quantity::equal("rotation-lost", content.lost(&after.api()?).await, 0),
        Quantity::equal("rotation-findings", fsck(&after.api()?, false).await?.len(), 0),
    ])
}
