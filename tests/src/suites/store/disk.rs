//! Faults under a running gateway: a full, read-only, inaccessible or slow disk, and a clock that is set back.
//!
//! During a fault, an operation that cannot succeed must fail with a status that says what to do. Acknowledged texts
//! must stay intact, and no partial document may appear. Once the fault is gone, the same process must work again.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tonic::Code;

use super::ops::{self, default_options, medium_text, small_text, sweep};
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::external;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;

mod clock;
mod slow;

/// Size of the disk in bytes.
const DISK_BYTES: usize = 4 << 20;
/// User id without any permissions.
pub const NOBODY: u32 = 65_534;
/// Gateway arguments that disable the cache, so that every read reaches the disk.
pub const NO_CACHE: [&str; 2] = ["--cache-size", "0"];

/// Runs all faults, one after another; the requirements above must hold for each.
pub async fn disk() -> Result<Vec<Quantity>> {
    let mut quantities = full().await?;
    quantities.extend(read_only().await?);
    quantities.extend(denied().await?);
    quantities.extend(clock::set_back().await?);
    quantities.extend(slow::slow().await?);
    Ok(quantities)
}

/// Tests a disk that is full until a file of another program is deleted; reads and deletes must succeed.
async fn full() -> Result<Vec<Quantity>> {
    let disk = Disk::new()?;
    let cluster = disk.spec().start().await?;
    let (code, says) = (Code::ResourceExhausted, "free space");
    let fault = Fault { name: "full", code, says, reads: Reads::GoOn, deletes: Deletes::Succeed };
    fault.run(&cluster, || disk.fill(), || disk.free()).await
}

/// Tests a disk that is remounted read-only, as after a hardware fault, and later writable again; reads must succeed.
async fn read_only() -> Result<Vec<Quantity>> {
    let disk = Disk::new()?;
    let cluster = disk.spec().start().await?;
    let deletes = Deletes::Fail;
    let fault = Fault { name: "read-only", code: Code::Unavailable, says: "read-only", reads: Reads::GoOn, deletes };
    fault.run(&cluster, || disk.remount("remount,ro"), || disk.remount("remount,rw")).await
}

/// Tests the loss of write access and then of all access to the store's folder; without write access, reads must
/// succeed. The gateway does not run as root, because root may access everything.
pub async fn denied() -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-denied-")?;
    let data = folder.path().join("data");
    let gateway_wrapper = unprivileged(folder.path())?;
    let spec = ClusterSpec { data: Some(data.display().to_string()), ..ClusterSpec::with_gateway_args(&NO_CACHE) };
    let spec = ClusterSpec { gateway_wrapper, ..spec };
    let cluster = spec.start().await?;
    let data = data.display().to_string();
    let (code, says, deletes) = (Code::Unavailable, "denies access", Deletes::Fail);
    let change = |mode: &'static str| {
        let data = &data;
        move || external::run("chmod", &["-R", mode, data])
    };
    let fault = Fault { name: "write-denied", code, says, reads: Reads::GoOn, deletes };
    let mut quantities = fault.run(&cluster, change("a-w"), change("u+w")).await?;
    let fault = Fault { name: "all-denied", code, says, reads: Reads::Fail, deletes };
    let whole = |mode: &'static str| {
        let data = &data;
        move || external::run("chmod", &[mode, data])
    };
    quantities.extend(fault.run(&cluster, whole("000"), whole("755")).await?);
    Ok(quantities)
}

/// Returns a wrapper command that runs a program as [`NOBODY`], and makes this user the owner of `folder`. If this
/// process does not run as root, returns an empty command and changes nothing.
pub fn unprivileged(folder: &Path) -> Result<Vec<String>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(Vec::new());
    }
    chown(folder, Some(NOBODY), Some(NOBODY))?;
    let user = ["setpriv", "--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups"];
    Ok(user.map(ToOwned::to_owned).to_vec())
}

/// A fault and its expected effect on clients.
struct Fault {
    name: &'static str,
    code: Code,
    /// Text that the error message must contain.
    says: &'static str,
    reads: Reads,
    deletes: Deletes,
}

/// Expected outcome of deletes during the fault.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deletes {
    Succeed,
    /// Deletes fail with the status of the fault.
    Fail,
}

/// Expected outcome of reads during the fault.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    GoOn,
    /// Reads fail with the status of the fault, never with NOT_FOUND.
    Fail,
}

impl Fault {
    /// Stores documents, causes the fault and tries all operations. Then repairs the fault and tries the operations
    /// again.
    async fn run(
        &self,
        cluster: &Cluster,
        cause: impl FnOnce() -> Result<()>,
        repair: impl FnOnce() -> Result<()>,
    ) -> Result<Vec<Quantity>> {
        let name = |what: &str| format!("disk-{}-{what}", self.name);
        let api = cluster.api()?;
        let text = |number: usize, of: fn(usize) -> String| format!("{}: {}", self.name, of(number));
        let texts = [text(1, small_text), text(2, small_text), text(3, medium_text)];
        let mut kept = Vec::new();
        for text in texts {
            kept.push((put(&api, &text).await?, text));
        }
        let mut ids = api.ids().await?;

        cause()?;
        let new = [text(4, small_text), text(5, medium_text)];
        let mut refused = Vec::new();
        for text in &new {
            refused.push(api.put(text.as_bytes(), default_options()).await.err());
        }
        let deleted = ops::delete(&api, &kept[0].0).await;
        let mut quantities = Vec::new();
        match self.deletes {
            Deletes::Fail => refused.push(deleted.err()),
            Deletes::Succeed => {
                quantities.push(Quantity::holds(name("delete-during-the-fault"), deleted.is_ok(), "deleted"));
                let (gone, _) = kept.swap_remove(0);
                ids.retain(|id| *id != gone);
            }
        }
        let clear = |status: &tonic::Status| status.code() == self.code && status.message().contains(self.says);
        let with_status = refused.iter().flatten().filter(|status| clear(status)).count();
        let message = refused[0].as_ref().map(|status| format!("{:?}: {}", status.code(), status.message()));
        quantities.push(Quantity::reported(name("message"), message));
        quantities.push(Quantity::equal(name("refused-with-the-status"), with_status, refused.len()));
        let (mut intact, mut failed_with_status) = (0, 0);
        for (id, text) in &kept {
            match api.get(id).await {
                Ok(got) => intact += usize::from(got.text == text.as_bytes()),
                Err(status) => failed_with_status += usize::from(clear(&status)),
            }
        }
        quantities.push(match self.reads {
            Reads::GoOn => Quantity::equal(name("reads-during-the-fault"), intact, kept.len()),
            Reads::Fail => Quantity::equal(name("reads-refused-with-the-status"), failed_with_status, kept.len()),
        });
        // The sweep may fail, but only with the status of the fault.
        let swept = sweep(&api, 0).await;
        let survives = swept.as_ref().err().is_none_or(clear);
        quantities.push(Quantity::observed(
            name("sweep-during-the-fault"),
            swept.is_ok(),
            survives,
            "success, or the status of the fault",
        ));

        repair()?;
        let seen = api.ids().await?;
        ids.sort();
        quantities.push(Quantity::holds(
            name("no-partial-document"),
            seen == ids,
            "the documents that were acknowledged",
        ));
        for text in new {
            kept.push((put(&api, &text).await?, text));
        }
        let (gone, _) = kept.swap_remove(0);
        ops::delete(&api, &gone).await?;
        sweep(&api, 0).await?;
        let mut intact = 0;
        for (id, text) in &kept {
            intact += usize::from(api.get(id).await.is_ok_and(|got| got.text == text.as_bytes()));
        }
        quantities.push(Quantity::equal(name("intact-after"), intact, kept.len()));
        quantities.push(Quantity::equal(name("findings-after"), ops::fsck(&api, false).await?.len(), 0));
        Ok(quantities)
    }
}

async fn put(api: &GatewayApi, text: &str) -> Result<String> {
    Ok(id_of(&api.put(text.as_bytes(), default_options()).await?.document.context("no document")?))
}

/// A tmpfs of a few MiB. Mounting requires root.
pub struct Disk {
    folder: TempDir,
}

impl Disk {
    /// Mounts the disk.
    pub fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("c3-disk-")?;
        let disk = Self { folder };
        let size = format!("size={DISK_BYTES}");
        let mounted = external::run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &disk.at()]);
        mounted.context("mounting the faulty disk requires root")?;
        Ok(disk)
    }

    fn at(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// Returns the folder of the store on the disk.
    pub fn data(&self) -> PathBuf {
        Path::new(&self.at()).join("data")
    }

    /// Returns the configuration of a cluster whose store is on the disk and whose gateway caches nothing.
    pub fn spec(&self) -> ClusterSpec {
        ClusterSpec { data: Some(self.data().display().to_string()), ..ClusterSpec::with_gateway_args(&NO_CACHE) }
    }

    /// Fills the disk with a file that is not the store's.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler())?;
        // A write fails once the disk is full.
        while file.write_all(&[1; 4096]).is_ok() {}
        Ok(())
    }

    fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    fn remount(&self, how: &str) -> Result<()> {
        external::run("mount", &["-o", how, &self.at()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Fails if the disk is not mounted.
        let _ = external::run("umount", &["-l", &self.at()]);
    }
}
