//! A clock that is set back by two days while the gateway runs, and forward again.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use c3_proto::pb;
use tempfile::TempDir;
use tonic::Code;

use super::put;
use crate::cluster::Plan;
use crate::row::Row;
use crate::store::ops::{self, objects_text, small_text, sweep, written};
use crate::wait::until;

/// Longest time until a document of one second is past it.
const EXPIRY_LIMIT: Duration = Duration::from_secs(20);
const DAY_MS: u64 = 24 * 3600 * 1000;

/// Puts, versions, deletes, times to live and sweeps before, on and after a clock that was set back.
pub(super) async fn set_back() -> Result<Vec<Row>> {
    let folder = TempDir::with_prefix("c3-clock-")?;
    let clock = folder.path().join("clock");
    // Replaced at once: the gateway looks at it whenever it asks for the time.
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
        // Files keep the times that they have: those of the clock as it was.
        "NO_FAKE_STAT=1".to_owned(),
    ];
    let mut cluster = Plan { gateway_under: settings.into(), ..Plan::default() }.start().await?;
    let calls = cluster.calls()?;
    let texts = [small_text(1), objects_text(2), small_text(3)];
    let mut ids = Vec::new();
    for text in &texts {
        ids.push(put(&calls, text).await?);
    }
    let before = calls.stat(&ids[0]).await?.created_unix_ms;

    set("-2d")?;
    let fresh = put(&calls, &small_text(4)).await?;
    let created = calls.stat(&fresh).await?.created_unix_ms;
    let mut rows =
        vec![Row::holds("disk-clock-is-back", created + DAY_MS < before, "a day earlier, or more")];
    // Newer versions, by an older clock.
    let coarser = pb::WriteOptions { ratio: 40, ..written() };
    calls.put(texts[0].as_bytes(), coarser).await?;
    rows.push(Row::equal("disk-clock-newest-version", calls.stat(&ids[0]).await?.ratio, 40));
    ops::delete(&calls, &ids[1]).await?;
    let read = calls.get(&ids[1]).await;
    rows.push(Row::holds("disk-clock-deleted", is_not_found(&read), "NOT_FOUND"));
    sweep(&calls, 0).await?;
    rows.push(Row::holds(
        "disk-clock-deleted-after-sweep",
        is_not_found(&calls.get(&ids[1]).await),
        "NOT_FOUND",
    ));
    let again = put(&calls, &texts[1]).await?;
    let got = calls.get(&again).await;
    let same = got.is_ok_and(|got| got.text == texts[1].as_bytes());
    rows.push(Row::holds("disk-clock-put-again", same, "identical"));
    let brief = pb::WriteOptions { ttl_seconds: 1, ..written() };
    let brief = calls.put(small_text(5).as_bytes(), brief).await?.document.context("no document")?;
    let expired = until("a document to be past its time", EXPIRY_LIMIT, async || {
        is_not_found(&calls.get(&crate::calls::id_of(&brief)).await).then_some(())
    });
    rows.push(Row::holds("disk-clock-expires", expired.await.is_ok(), "NOT_FOUND after its time"));

    // A gateway that was started by the old clock remembers no stamp.
    cluster.restart_gateway().await?;
    let calls = cluster.calls()?;
    calls.put(texts[0].as_bytes(), written()).await?;
    rows.push(Row::equal("disk-clock-newest-version-restarted", calls.stat(&ids[0]).await?.ratio, 20));

    set("+0")?;
    sweep(&calls, 0).await?;
    let kept = [(&ids[0], &texts[0]), (&ids[1], &texts[1]), (&ids[2], &texts[2])];
    let mut intact = 0;
    for (id, text) in kept {
        intact += usize::from(calls.get(id).await.is_ok_and(|got| got.text == text.as_bytes()));
    }
    rows.push(Row::equal("disk-clock-intact-after", intact, kept.len()));
    rows.push(Row::equal("disk-clock-documents-after", calls.ids().await?.len(), 4));
    rows.push(Row::equal("disk-clock-findings-after", ops::check(&calls, false).await?.len(), 0));
    Ok(rows)
}

fn is_not_found<T>(read: &Result<T, tonic::Status>) -> bool {
    read.as_ref().is_err_and(|status| status.code() == Code::NotFound)
}

/// The library that tells a program another time.
fn libfaketime() -> Result<PathBuf> {
    let systems = fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
    let mut there = systems.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    there.find(|path| path.is_file()).context("libfaketime is missing: `apt-get install faketime`")
}
