//! A clock that is set back by two days under a running gateway, and forward again.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use c3_proto::pb;
use tempfile::TempDir;
use tonic::Code;

use super::put;
use crate::harness::cluster::ClusterSpec;
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;
use crate::suites::store::ops::{self, default_options, medium_text, small_text, sweep};

/// Maximum time until a document with a lifetime of one second has expired.
const EXPIRY_LIMIT: Duration = Duration::from_secs(20);
const DAY_MS: u64 = 24 * 3600 * 1000;

/// Sets the gateway's clock back by two days and puts, overwrites, deletes and sweeps documents, then sets the clock
/// forward again; the newest version must win, deleted documents must stay deleted, and no text may be lost. A document
/// with a time to live must expire even on the wrong clock.
pub(super) async fn set_back() -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-clock-")?;
    let clock = folder.path().join("clock");
    // Replaces the file atomically, because libfaketime reads it whenever the gateway asks for the time.
    let set = |to: &str| -> Result<()> {
        let next = folder.path().join("next");
        fs::write(&next, to)?;
        Ok(fs::rename(&next, &clock)?)
    };
    set("+0")?;
    let settings = [
        "env".to_owned(),
        format!("LD_PRELOAD={}", libfaketime()?.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        // libfaketime does not change the times of files.
        "NO_FAKE_STAT=1".to_owned(),
    ];
    let mut cluster = ClusterSpec { gateway_wrapper: settings.into(), ..ClusterSpec::default() }.start().await?;
    let api = cluster.api()?;
    let texts = [small_text(1), medium_text(2), small_text(3)];
    let mut ids = Vec::new();
    for text in &texts {
        ids.push(put(&api, text).await?);
    }
    let before = api.stat(&ids[0]).await?.created_unix_ms;

    set("-2d")?;
    let fresh = put(&api, &small_text(4)).await?;
    let created = api.stat(&fresh).await?.created_unix_ms;
    let mut quantities =
        vec![Quantity::holds("disk-clock-is-back", created + DAY_MS < before, "at least a day earlier")];
    // Puts a newer version with an older timestamp.
    let coarser = pb::WriteOptions { ratio: 40, ..default_options() };
    api.put(texts[0].as_bytes(), coarser).await?;
    quantities.push(Quantity::equal("disk-clock-newest-version", api.stat(&ids[0]).await?.ratio, 40));
    ops::delete(&api, &ids[1]).await?;
    let read = api.get(&ids[1]).await;
    quantities.push(Quantity::holds("disk-clock-deleted", is_not_found(&read), "NOT_FOUND"));
    sweep(&api, 0).await?;
    quantities.push(Quantity::holds(
        "disk-clock-deleted-after-sweep",
        is_not_found(&api.get(&ids[1]).await),
        "NOT_FOUND",
    ));
    let again = put(&api, &texts[1]).await?;
    let got = api.get(&again).await;
    let same = got.is_ok_and(|got| got.text == texts[1].as_bytes());
    quantities.push(Quantity::holds("disk-clock-put-again", same, "identical"));
    let brief = pb::WriteOptions { ttl_seconds: 1, ..default_options() };
    let brief = api.put(small_text(5).as_bytes(), brief).await?.document.context("no document")?;
    let expired = until("a document to be past its time", EXPIRY_LIMIT, async || {
        is_not_found(&api.get(&crate::harness::gateway_api::id_of(&brief)).await).then_some(())
    });
    quantities.push(Quantity::holds("disk-clock-expires", expired.await.is_ok(), "NOT_FOUND after its time"));

    // Restarts the gateway. The new process has never seen the later time, so it can number the next version correctly
    // only by reading the stored one.
    cluster.restart_gateway().await?;
    let api = cluster.api()?;
    api.put(texts[0].as_bytes(), default_options()).await?;
    quantities.push(Quantity::equal("disk-clock-newest-version-restarted", api.stat(&ids[0]).await?.ratio, 20));

    set("+0")?;
    sweep(&api, 0).await?;
    let kept = [(&ids[0], &texts[0]), (&ids[1], &texts[1]), (&ids[2], &texts[2])];
    let mut intact = 0;
    for (id, text) in kept {
        intact += usize::from(api.get(id).await.is_ok_and(|got| got.text == text.as_bytes()));
    }
    quantities.push(Quantity::equal("disk-clock-intact-after", intact, kept.len()));
    quantities.push(Quantity::equal("disk-clock-documents-after", api.ids().await?.len(), 4));
    quantities.push(Quantity::equal("disk-clock-findings-after", ops::fsck(&api, false).await?.len(), 0));
    Ok(quantities)
}

fn is_not_found<T>(read: &Result<T, tonic::Status>) -> bool {
    read.as_ref().is_err_and(|status| status.code() == Code::NotFound)
}

/// Returns the path of libfaketime, a library that changes the time a program sees.
fn libfaketime() -> Result<PathBuf> {
    let systems = fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
    let mut there = systems.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    there.find(|path| path.is_file()).context("libfaketime is missing: `apt-get install faketime`")
}
