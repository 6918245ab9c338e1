//! Backups: a copy of the store, made while documents are stored, replaces a store that was lost.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::harness::cluster::ClusterSpec;
use crate::harness::external;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::quantity::Quantity;
use crate::suites::store::ops::fsck;
use crate::suites::store::s3::S3;

/// Folders of a store in the order in which `docs/guides/operate.md` copies them. Objects refer only to objects in
/// folders that come later, and these were written first.
const ORDER: [&str; 8] = ["names", "labels", "deleted", "documents", "packs", "corrections", "latents", "meta"];

/// Copies stores while documents are stored, loses the stores, and reads all documents of the copies.
pub(super) async fn backup(text: &str, documents: usize) -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-backup-")?;
    let spec = ClusterSpec { data: Some(folder.path().join("data").display().to_string()), ..ClusterSpec::default() };
    let mut quantities = restore(spec, folder.path().join("data"), text, documents, "folder").await?;
    let s3 = S3::start().await?;
    let bucket = s3.bucket().join("c3");
    quantities.extend(restore(ClusterSpec::default().over_s3(s3.address()), bucket, text, documents, "s3").await?);
    Ok(quantities)
}

/// Stores documents, copies the store in `data` while more documents are stored, replaces the store by its copy, and
/// compares the documents that were stored before the copy began.
async fn restore(spec: ClusterSpec, data: PathBuf, text: &str, documents: usize, what: &str) -> Result<Vec<Quantity>> {
    let cluster = spec.start().await?;
    let api = cluster.api()?;
    let texts = Vec::from_iter((0..2 * documents).map(|number| piece(text, number)));
    let (before, during) = texts.split_at(documents);
    let mut stored = Vec::new();
    for text in before {
        stored.push((put(&api, text).await?, text));
    }
    let copy = TempDir::with_prefix("c3-backup-copy-")?;
    let copied = tokio::task::spawn_blocking({
        let (from, to) = (data.clone(), copy.path().to_owned());
        move || copy_in_order(&from, &to)
    });
    for text in during {
        put(&api, text).await?;
    }
    copied.await??;
    fs::remove_dir_all(&data)?;
    fs::create_dir_all(&data)?;
    external::run("cp", &["-a", &format!("{}/.", copy.path().display()), &data.display().to_string()])?;

    let cluster = cluster.restart().await?;
    let api = cluster.api()?;
    let mut lost = 0;
    for (id, text) in &stored {
        let same = api.get(id).await.is_ok_and(|got| got.text == text.as_bytes());
        lost += usize::from(!same);
    }
    let mut unreadable = 0;
    for id in api.ids().await? {
        unreadable += usize::from(api.get(&id).await.is_err());
    }
    Ok(vec![
        Quantity::reported(format!("backup-{what}-documents"), stored.len()),
        Quantity::equal(format!("backup-{what}-lost"), lost, 0),
        Quantity::equal(format!("backup-{what}-unreadable"), unreadable, 0),
        Quantity::equal(format!("backup-{what}-findings"), fsck(&api, false).await?.len(), 0),
    ])
}

/// Stores a text. Returns its id.
async fn put(api: &GatewayApi, text: &str) -> Result<String> {
    let result = api.put_at(text.as_bytes(), 20).await?;
    Ok(id_of(&result.document.context("the put has no document")?))
}

/// Returns text number `number`: a piece of `text` behind its number. Every tenth text has objects of its own.
fn piece(text: &str, number: usize) -> String {
    let length = if number.is_multiple_of(10) { 12_000 } else { 300 };
    let start = text.floor_char_boundary(number * 997 % text.len().saturating_sub(length).max(1));
    let end = text.floor_char_boundary((start + length).min(text.len()));
    format!("Document {number}. {}", &text[start..end])
}

/// Copies a store with `cp`, folder by folder in [`ORDER`].
fn copy_in_order(from: &Path, to: &Path) -> Result<()> {
    let folders = ORDER.map(|folder| from.join(folder));
    let folders = Vec::from_iter(folders.iter().filter(|folder| folder.is_dir()));
    ensure!(folders.len() > 3, "the store in {} lacks folders", from.display());
    for folder in folders {
        external::run("cp", &["-a", &folder.display().to_string(), &to.display().to_string()])?;
    }
    Ok(())
}
