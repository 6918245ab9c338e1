//! A store without encryption is encrypted in place by a command that is killed on the way.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::time::sleep;

use super::content::Content;
use super::{c3, master_key, succeed, with_keys};
use crate::harness::cluster::{ClusterSpec, files_under};
use crate::harness::fixtures;
use crate::harness::quantity::Quantity;
use crate::suites::store::ops::{Rng, fsck};

const KILLS: usize = 20;
const SEED: u64 = 27;

/// Encrypts a store that was written without a key, on top of one that an earlier version wrote. The command is killed
/// [`KILLS`] times; nothing may be lost, and nothing plain may be left.
pub(super) async fn in_place() -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-in-place-")?;
    let data = folder.path().join("data");
    copy(&fixtures::root().join("crates/store/fixtures/store-v2"), &data)?;
    let key = master_key(folder.path(), 7)?;
    let spec =
        |args| ClusterSpec { gateway_args: args, data: Some(data.display().to_string()), ..ClusterSpec::default() };
    let cluster = spec(Vec::new()).start().await?;
    let content = Content::put(&cluster.api()?, 5000).await?;
    let listed = cluster.api()?.ids().await?;
    drop(cluster);

    let (mut rng, mut interrupted) = (Rng::new(SEED), 0);
    for _ in 0..KILLS {
        let mut command = c3(&["store", "encrypt"], &data, &[&key]).command()?;
        let mut child = command.stdout(Stdio::null()).spawn()?;
        // Waits for the first move, as long as there is one, and then for a random time.
        let before = moved(&data)?;
        while moved(&data)? == before && child.try_wait()?.is_none() {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_micros(rng.below(5_000) as u64)).await;
        interrupted += usize::from(child.try_wait()?.is_none());
        child.kill()?;
        child.wait()?;
    }
    // A gateway opens the partly encrypted store.
    let cluster = spec(with_keys(&[&key])).start().await?;
    let lost_halfway = content.lost(&cluster.api()?).await;
    let printed = succeed(c3(&["store", "encrypt"], &data, &[&key])).await?;
    let lost = content.lost(&cluster.api()?).await;
    let cluster = cluster.restart().await?;
    let api = cluster.api()?;
    let (traces, files) = content.traces_under(&[], &data)?;
    ensure!(files > 3, "the store is empty");
    let keys = succeed(c3(&["store", "keys"], &data, &[&key])).await?;
    let mut now = api.ids().await?;
    now.sort_unstable();
    let mut before = listed;
    before.sort_unstable();
    Ok(vec![
        Quantity::reported(format!("in-place-kills-interrupted (seed {SEED}, {KILLS} kills)"), interrupted),
        Quantity::equal("in-place-lost-halfway", lost_halfway, 0),
        Quantity::equal("in-place-lost", lost + content.lost(&api).await, 0),
        Quantity::equal("in-place-listed", now, before),
        Quantity::equal("in-place-findings", fsck(&api, false).await?.len(), 0),
        Quantity::equal("in-place-traces", traces, Vec::new()),
        Quantity::observed("in-place-report", printed.trim(), printed.contains("0 left"), "0 left"),
        Quantity::observed("in-place-keys", keys.trim(), keys.contains("not encrypted: 0 objects"), "0 plain objects"),
    ])
}

/// Counts the encrypted objects.
fn moved(data: &Path) -> Result<usize> {
    let sealed = data.join("sealed");
    if sealed.exists() { Ok(files_under(&sealed)?.len()) } else { Ok(0) }
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for file in files_under(from)? {
        let target = to.join(file.strip_prefix(from)?);
        fs::create_dir_all(target.parent().unwrap_or(to))?;
        fs::copy(file, target)?;
    }
    Ok(())
}
