//! Foreign files in the data folder, and data folders that vanish or fill up.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::harness::cluster::{Cluster, ClusterSpec, files_under};
use crate::harness::external;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;
use crate::suites::store::disk::{Disk, NO_CACHE, NOBODY};
use crate::suites::store::ops::{self, default_options, large_text, medium_text, small_text, sweep};

/// Names of the measurements in this module.
pub const ROWS: &[&str] = &["foreign-entries", "foreign-files", "vanished-store", "full-disk"];

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str) -> Result<Vec<Quantity>> {
    match row {
        "foreign-entries" => foreign_entries().await,
        "foreign-files" => foreign_files().await,
        "vanished-store" => vanished_store().await,
        "full-disk" => full_disk().await,
        row => bail!("no measurement is named `{row}`"),
    }
}

/// Runs an operator's commands on a data folder with foreign entries, which the gateway did not write; the commands
/// must succeed, and must count and skip these entries. Some of the entries cannot be read, others have names that are
/// no valid keys of the store.
async fn foreign_entries() -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-foreign-")?;
    let data = folder.path().join("data");
    let mut spec = ClusterSpec { data: Some(data.display().to_string()), ..ClusterSpec::with_gateway_args(&NO_CACHE) };
    if fs::metadata("/proc/self")?.uid() == 0 {
        chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
        let user = ["setpriv", "--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups"];
        spec.gateway_wrapper = user.map(ToOwned::to_owned).to_vec();
    }
    let cluster = spec.start().await?;
    let api = cluster.api()?;
    let text = medium_text(1);
    let (id, gone) = (put(&api, &text).await?, put(&api, &medium_text(2)).await?);
    let own = objects(&data)?;
    let folders = [data.join("documents").join(&id[..2]), data.join("documents")];

    let mut count = 0;
    for folder in [data.as_path(), data.join("documents").as_path(), data.join("latents").as_path()] {
        let unreadable = folder.join("lost+found");
        fs::create_dir(&unreadable)?;
        fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000))?;
        count += 1;
    }
    for folder in &folders {
        symlink("..", folder.join("loop"))?;
        symlink("self", folder.join("self"))?;
        fs::write(folder.join(OsStr::from_bytes(b"caf\xe9")), "not UTF-8")?;
        fs::write(folder.join("line\nbreak"), "a control character")?;
        count += 4;
    }
    for file in &own {
        let name = file.file_name().context("no name")?.to_string_lossy().into_owned();
        fs::write(file.with_file_name(format!("._{name}")), "what macOS leaves on network folders")?;
        count += 1;
    }

    ops::delete(&api, &gone).await?;
    // Garbage collection removes at least the manifest and the latents.
    let left_max = own.len() as f64 - 2.0;
    let ended = |command: &[&str]| {
        let launch = c3(&cluster, command);
        async move { Ok::<_, anyhow::Error>(launch.output().await?.status.code()) }
    };
    let checked: Value = serde_json::from_slice(&c3(&cluster, &["fsck", "--json"]).output().await?.stdout)
        .context("fsck printed no summary")?;
    let log = cluster.gateway.log();
    let warnings = log.lines().filter(|line| line.contains("entries that are not the store's")).count();
    Ok(vec![
        Quantity::equal("foreign-entries-ls", ended(&["ls"]).await?, Some(0)),
        Quantity::equal("foreign-entries-stat", ended(&["stat"]).await?, Some(0)),
        Quantity::equal("foreign-entries-gc", ended(&["gc", "--grace", "0"]).await?, Some(0)),
        Quantity::equal("foreign-entries-findings", checked["findings"].as_array().map(Vec::len), Some(0)),
        Quantity::equal("foreign-entries-counted", checked["foreign"].as_u64(), Some(count)),
        Quantity::equal("foreign-entries-warnings", warnings, 1),
        Quantity::equal(
            "foreign-entries-intact",
            api.get(&id).await.is_ok_and(|got| got.text == text.as_bytes()),
            true,
        ),
        Quantity::at_most("foreign-entries-own-left", own.iter().filter(|file| file.exists()).count() as f64, left_max),
    ])
}

/// Starts a gateway, collects garbage and repairs in a data folder where other programs keep files; all these files
/// must stay. Their names are like those of the gateway's probes and temporary files, and they are old enough to be
/// removed.
async fn foreign_files() -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-foreign-")?;
    let data = folder.path().join("data");
    let files = ["probe", "mine/track#1", "documents/track#1", "documents/ab/track#1", "latents/mine.txt", "gc/mine"];
    for file in files.map(|file| data.join(file)) {
        fs::create_dir_all(file.parent().context("no folder")?)?;
        fs::write(&file, "mine")?;
        fs::File::open(&file)?.set_modified(SystemTime::now() - Duration::from_secs(7200))?;
    }
    let spec = ClusterSpec { data: Some(data.display().to_string()), ..ClusterSpec::default() };
    let cluster = spec.start().await?;
    let api = cluster.api()?;
    let left = || files.into_iter().filter(|file| fs::read(data.join(file)).is_ok_and(|read| read == b"mine")).count();
    let mut quantities = vec![Quantity::equal("foreign-files-after-start", left(), files.len())];
    // Garbage collection must still remove a temporary file that a killed gateway has left.
    let id = put(&api, &small_text(1)).await?;
    let own = files_under(&data.join("documents"))?.into_iter().find(|file| file.to_string_lossy().contains(&id));
    let own = own.context("the document has no file")?;
    let own = PathBuf::from(format!("{}#1", own.display()));
    fs::write(&own, "half an object")?;
    fs::File::open(&own)?.set_modified(SystemTime::now() - Duration::from_secs(7200))?;
    sweep(&api, 0).await?;
    quantities.push(Quantity::equal("foreign-files-after-gc", left(), files.len()));
    quantities.push(Quantity::holds("foreign-files-own-removed", !own.exists(), "removed"));
    ops::fsck(&api, true).await?;
    quantities.push(Quantity::equal("foreign-files-after-fsck-repair", left(), files.len()));
    Ok(quantities)
}

/// Unmounts the data folder under a running gateway, mounts another store there, mounts the first store again, and
/// finally removes its content; operations must fail with UNAVAILABLE unless the first store is there.
async fn vanished_store() -> Result<Vec<Quantity>> {
    let mount = Mount::new()?;
    let data = mount.folder.path().join("data");
    mount.mount("first")?;
    let spec = ClusterSpec { data: Some(data.display().to_string()), ..ClusterSpec::with_gateway_args(&NO_CACHE) };
    let cluster = spec.start().await?;
    let api = cluster.api()?;
    let text = medium_text(1);
    let id = put(&api, &text).await?;

    mount.unmount()?;
    let mut quantities = refused(&api, "vanished", &id).await;
    quantities.push(Quantity::equal("vanished-files-in-the-mount-point", files_under(&data)?.len(), 0));

    mount.mount("second")?;
    let other = cluster.start_second_gateway().await?;
    let strange = put(&GatewayApi::to(&other)?, &small_text(2)).await?;
    quantities.extend(refused(&api, "replaced", &strange).await);
    drop(other);

    mount.unmount()?;
    mount.mount("first")?;
    let again = api.get(&id).await;
    quantities.push(Quantity::holds("vanished-back", again.is_ok_and(|got| got.text == text.as_bytes()), "the text"));
    quantities.push(Quantity::holds("vanished-back-put", put(&api, &small_text(3)).await.is_ok(), "stored"));

    for entry in fs::read_dir(&data)? {
        fs::remove_dir_all(entry?.path())?;
    }
    quantities.extend(refused(&api, "removed", &id).await);
    Ok(quantities)
}

/// Tries operations on a store that has vanished or was replaced. Each must fail with UNAVAILABLE and the reason.
async fn refused(api: &GatewayApi, name: &str, id: &str) -> Vec<Quantity> {
    let says = if name == "replaced" { "another store" } else { "vanished" };
    let tries = [
        ("put", api.put(small_text(9).as_bytes(), default_options()).await.err()),
        ("get", api.get(id).await.err()),
        ("ls", api.ids().await.err()),
        ("rm", ops::delete(api, id).await.err()),
        ("gc", sweep(api, 0).await.err()),
    ];
    let quantity = |(operation, status): (&str, Option<Status>)| {
        let ok =
            status.as_ref().is_some_and(|status| status.code() == Code::Unavailable && status.message().contains(says));
        let seen =
            status.map_or_else(|| "success".to_owned(), |status| format!("{:?}: {}", status.code(), status.message()));
        Quantity::observed(format!("{name}-{operation}"), seen, ok, format!("UNAVAILABLE, says `{says}`"))
    };
    tries.into_iter().map(quantity).collect()
}

/// Fills the disk, then deletes documents and collects garbage; this alone must free enough space for a put, and the
/// remaining documents must stay intact.
async fn full_disk() -> Result<Vec<Quantity>> {
    let disk = Disk::new()?;
    let mut cluster = disk.spec().start().await?;
    let api = cluster.api()?;
    let (mut ids, kept) = (Vec::new(), small_text(1));
    let kept_id = put(&api, &kept).await?;
    for number in 0..4 {
        ids.push(put(&api, &large_text(number)).await?);
    }
    // These small documents have manifests that a garbage collection would move into a pack (one object for many
    // manifests), which takes space.
    for number in 0..20 {
        put(&api, &small_text(100 + number)).await?;
    }
    disk.fill()?;
    let full = put(&api, &medium_text(50)).await.err().context("the disk is not full")?;
    let full = full.downcast_ref::<Status>().map(Status::code);
    let mut quantities =
        vec![Quantity::equal("full-disk-put", full.map(|code| format!("{code:?}")), Some("ResourceExhausted".into()))];
    // A gateway must also start on the full disk.
    cluster.restart_gateway().await?;
    let api = cluster.api()?;
    let packs = || files_under(&disk.data().join("packs")).map_or(0, |packs| packs.len() as u64);
    let mut deleted = 0;
    for id in &ids {
        deleted += usize::from(ops::delete(&api, id).await.is_ok());
    }
    quantities.push(Quantity::equal("full-disk-deleted", deleted, ids.len()));
    let swept = sweep(&api, 0).await;
    let seen = swept.as_ref().map_err(|status| status.message().to_owned()).map(|swept| swept.removed_bytes);
    quantities.push(Quantity::observed(
        "full-disk-freed-bytes",
        &seen,
        seen.as_ref().is_ok_and(|&bytes| bytes > 0),
        "> 0",
    ));
    let packed = swept.map_or(0, |swept| swept.packed);
    let (claimed, written) = (packed > 0, packs() > 0);
    quantities.push(Quantity::holds(
        "full-disk-packs-as-reported",
        claimed == written,
        "packs exist if any are reported",
    ));
    quantities.push(Quantity::holds("full-disk-put-afterwards", put(&api, &medium_text(51)).await.is_ok(), "stored"));
    quantities.push(Quantity::holds(
        "full-disk-intact",
        api.get(&kept_id).await.is_ok_and(|got| got.text == kept.as_bytes()),
        "identical",
    ));
    quantities.push(Quantity::equal("full-disk-findings", ops::fsck(&api, false).await?.len(), 0));
    Ok(quantities)
}

async fn put(api: &GatewayApi, text: &str) -> Result<String> {
    Ok(id_of(&api.put(text.as_bytes(), default_options()).await?.document.context("no document")?))
}

fn c3(cluster: &Cluster, args: &[&str]) -> Launch {
    Launch::new(Program::C3).args(args).env("C3_GATEWAY", cluster.gateway.url())
}

/// Returns the files of documents: manifests, latents and corrections.
fn objects(data: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in ["documents", "latents", "corrections"] {
        files.extend(files_under(&data.join(folder))?);
    }
    Ok(files)
}

/// A folder `data` on which other folders are mounted. Mounting requires root.
struct Mount {
    folder: TempDir,
}

impl Mount {
    fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("c3-mount-")?;
        for name in ["data", "first", "second"] {
            fs::create_dir(folder.path().join(name))?;
        }
        Ok(Self { folder })
    }

    fn mount(&self, source: &str) -> Result<()> {
        let [source, data] = [source, "data"].map(|name| self.folder.path().join(name).display().to_string());
        external::run("mount", &["--bind", &source, &data]).context("mounting a folder requires root")
    }

    fn unmount(&self) -> Result<()> {
        external::run("umount", &["-l", &self.folder.path().join("data").display().to_string()])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Fails if nothing is mounted.
        let _ = self.unmount();
    }
}
