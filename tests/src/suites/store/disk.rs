//! A disk that fails under a gateway that runs: full, read-only, denied, slow; and a clock that is set back.
//!
//! Of each the same is asked: what cannot be done is refused with a status that says what to do, what was acknowledged is
//! read, nothing half-done is ever seen, and once the fault is gone the same process goes on.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tonic::Code;

use super::ops::{self, objects_text, small_text, sweep, written};
use crate::calls::{Calls, id_of};
use crate::cluster::{Cluster, Plan};
use crate::row::Row;
use crate::tool;

mod clock;
mod slow;

/// Size of the disk that is filled.
const DISK_BYTES: usize = 4 << 20;
/// A user who is not root and owns nothing.
const NOBODY: u32 = 65_534;
/// So that reads reach the disk.
const NO_CACHE: [&str; 2] = ["--cache-bytes", "0"];

/// All faults, one after another.
pub async fn disk() -> Result<Vec<Row>> {
    let mut rows = full().await?;
    rows.extend(read_only().await?);
    rows.extend(denied().await?);
    rows.extend(clock::set_back().await?);
    rows.extend(slow::slow().await?);
    Ok(rows)
}

/// A disk without a free byte, then with some.
async fn full() -> Result<Vec<Row>> {
    let disk = Disk::new()?;
    let cluster = disk.plan().start().await?;
    let filler = disk.folder.path().join("filler");
    let fault = Fault { name: "full", code: Code::ResourceExhausted, says: "free space", reads: Reads::GoOn };
    let fill = || {
        let mut file = File::create(&filler)?;
        // It ends with an error, which is what is wanted.
        while file.write_all(&[1; 4096]).is_ok() {}
        Ok(())
    };
    fault.endure(&cluster, fill, || Ok(fs::remove_file(&filler)?)).await
}

/// A disk that the system makes read-only, as it does where one fails, then writable again.
async fn read_only() -> Result<Vec<Row>> {
    let disk = Disk::new()?;
    let cluster = disk.plan().start().await?;
    let fault = Fault { name: "read-only", code: Code::Unavailable, says: "read-only", reads: Reads::GoOn };
    fault.endure(&cluster, || disk.remount("remount,ro"), || disk.remount("remount,rw")).await
}

/// A gateway of another user than root that may not write any more, and then not even read.
pub async fn denied() -> Result<Vec<Row>> {
    let folder = TempDir::with_prefix("c3-denied-")?;
    let data = folder.path().join("data");
    let mut plan = Plan { data: Some(data.display().to_string()), ..Plan::with_gateway_args(&NO_CACHE) };
    if fs::metadata("/proc/self")?.uid() == 0 {
        chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
        let user =
            ["setpriv", "--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups"];
        plan.gateway_under = user.map(ToOwned::to_owned).to_vec();
    }
    let cluster = plan.start().await?;
    let data = data.display().to_string();
    let (code, says) = (Code::Unavailable, "denies access");
    let change = |mode: &'static str| {
        let data = &data;
        move || tool::run("chmod", &["-R", mode, data])
    };
    let fault = Fault { name: "write-denied", code, says, reads: Reads::GoOn };
    let mut rows = fault.endure(&cluster, change("a-w"), change("u+w")).await?;
    let fault = Fault { name: "all-denied", code, says, reads: Reads::Fail };
    let whole = |mode: &'static str| {
        let data = &data;
        move || tool::run("chmod", &[mode, data])
    };
    rows.extend(fault.endure(&cluster, whole("000"), whole("755")).await?);
    Ok(rows)
}

/// What a fault must look like to callers.
struct Fault {
    name: &'static str,
    code: Code,
    /// What a refusal says.
    says: &'static str,
    reads: Reads,
}

/// What becomes of reads meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    GoOn,
    /// With the fault's own status, never as if there were no document.
    Fail,
}

impl Fault {
    /// Stores documents, brings the fault about, asks for everything, mends it, and asks again.
    async fn endure(
        &self,
        cluster: &Cluster,
        cause: impl FnOnce() -> Result<()>,
        mend: impl FnOnce() -> Result<()>,
    ) -> Result<Vec<Row>> {
        let row = |what: &str| format!("disk-{}-{what}", self.name);
        let calls = cluster.calls()?;
        let text = |number: usize, of: fn(usize) -> String| format!("{}: {}", self.name, of(number));
        let texts = [text(1, small_text), text(2, small_text), text(3, objects_text)];
        let mut kept = Vec::new();
        for text in texts {
            kept.push((put(&calls, &text).await?, text));
        }
        let mut ids = calls.ids().await?;

        cause()?;
        let new = [text(4, small_text), text(5, objects_text)];
        let mut refused = Vec::new();
        for text in &new {
            refused.push(calls.put(text.as_bytes(), written()).await.err());
        }
        refused.push(ops::delete(&calls, &kept[0].0).await.err());
        let clear =
            |status: &tonic::Status| status.code() == self.code && status.message().contains(self.says);
        let clearly = refused.iter().flatten().filter(|status| clear(status)).count();
        let said = refused[0].as_ref().map(|status| format!("{:?}: {}", status.code(), status.message()));
        let mut rows = vec![
            Row::seen(row("says"), said, true, "told only"),
            Row::equal(row("refused-clearly"), clearly, refused.len()),
        ];
        let (mut intact, mut failed_clearly) = (0, 0);
        for (id, text) in &kept {
            match calls.get(id).await {
                Ok(got) => intact += usize::from(got.text == text.as_bytes()),
                Err(status) => failed_clearly += usize::from(clear(&status)),
            }
        }
        rows.push(match self.reads {
            Reads::GoOn => Row::equal(row("reads-meanwhile"), intact, kept.len()),
            Reads::Fail => Row::equal(row("reads-refused-clearly"), failed_clearly, kept.len()),
        });
        // A sweep may fail now, and must not end the gateway.
        let swept = sweep(&calls, 0).await;
        let survives = swept.as_ref().err().is_none_or(clear);
        rows.push(Row::seen(row("sweep-meanwhile"), swept.is_ok(), survives, "done, or refused clearly"));

        mend()?;
        let seen = calls.ids().await?;
        ids.sort();
        rows.push(Row::holds(row("nothing-half-done"), seen == ids, "the documents that were acknowledged"));
        for text in new {
            kept.push((put(&calls, &text).await?, text));
        }
        let (gone, _) = kept.swap_remove(0);
        ops::delete(&calls, &gone).await?;
        sweep(&calls, 0).await?;
        let mut intact = 0;
        for (id, text) in &kept {
            intact += usize::from(calls.get(id).await.is_ok_and(|got| got.text == text.as_bytes()));
        }
        rows.push(Row::equal(row("intact-after"), intact, kept.len()));
        rows.push(Row::equal(row("findings-after"), ops::check(&calls, false).await?.len(), 0));
        Ok(rows)
    }
}

async fn put(calls: &Calls, text: &str) -> Result<String> {
    Ok(id_of(&calls.put(text.as_bytes(), written()).await?.document.context("no document")?))
}

/// A disk in memory, of a few MiB. Mounting needs root.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("c3-disk-")?;
        let disk = Self { folder };
        let size = format!("size={DISK_BYTES}");
        let mounted = tool::run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &disk.at()]);
        mounted.context("a disk that fails has to be mounted: run this as root")?;
        Ok(disk)
    }

    fn at(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn data(&self) -> PathBuf {
        Path::new(&self.at()).join("data")
    }

    fn plan(&self) -> Plan {
        Plan { data: Some(self.data().display().to_string()), ..Plan::with_gateway_args(&NO_CACHE) }
    }

    fn remount(&self, how: &str) -> Result<()> {
        tool::run("mount", &["-o", how, &self.at()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Where it was not mounted there is nothing to undo.
        let _ = tool::run("umount", &["-l", &self.at()]);
    }
}
