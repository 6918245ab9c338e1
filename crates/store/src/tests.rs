//! Tests of the whole store in a local folder.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use c3_types::DocumentId;
use futures::{TryStreamExt, future, pin_mut};

use c3_types::{Finding, FsckEvent, FsckMode};

use super::*;
use crate::fsck::check;
use crate::manifest::tests::manifest;
use crate::manifest::{Manifest, Placement, ShardEntry, Verification};
use crate::object::key::{ObjectKey, ShardKeys};
use crate::object::version::{Version, now_unix_ms};
use crate::shard::tests::{corrections, shard};
use crate::upload_session::UploadSession;

pub(crate) async fn open(folder: &Path) -> Store {
    Store::open(folder.to_str().unwrap()).await.unwrap()
}

pub(crate) async fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    (folder, store)
}

/// Returns a document of one inline shard.
pub(crate) fn small(text: &str) -> Manifest {
    let mut small = manifest(&[vec![120, 21]], true);
    small.id = DocumentId::of(text.as_bytes());
    let latents = shard(&[40, 7]);
    let corrections = corrections(&latents).into_encoded();
    let hash = small.shards[0].hash;
    small.shards = vec![ShardEntry::inline(hash, &latents.into_encoded(), Some(&corrections))];
    small
}

/// Stores the objects of a document of one shard, but not its manifest. Returns the manifest and the keys.
pub(crate) async fn large(store: &Store, text: &str) -> (Manifest, ShardKeys) {
    let mut large = manifest(&[vec![120, 21]], true);
    large.id = DocumentId::of(text.as_bytes());
    let prefixes = large.key_prefixes(&large.shards[0]);
    let latents = shard(&[40, 7]);
    let corrections = corrections(&latents).into_encoded();
    let latents = store.put_latents(&prefixes.latents, latents.into_encoded()).await.unwrap();
    let corrections = store.put_corrections(&prefixes.corrections.unwrap(), corrections).await.unwrap();
    large.shards[0].placement = Placement::Objects { latents: latents.version, corrections: corrections.version };
    let keys = large.keys(&large.shards[0]).unwrap();
    (large, keys)
}

pub(crate) fn path(folder: &Path, key: &ObjectKey) -> std::path::PathBuf {
    folder.join(key.path().as_ref())
}

pub(crate) fn files(folder: &Path, below: &str) -> usize {
    let Ok(entries) = fs::read_dir(folder.join(below)) else { return 0 };
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            if path == folder.join("meta") {
                return 0;
            }
            if path.is_dir() { files(folder, path.strip_prefix(folder).unwrap().to_str().unwrap()) } else { 1 }
        })
        .sum()
}

pub(crate) async fn findings(store: &Store, mode: FsckMode) -> Vec<Finding> {
    let events = check(store, mode);
    pin_mut!(events);
    let mut findings = Vec::new();
    while let Some(event) = events.try_next().await.unwrap() {
        if let FsckEvent::Finding(finding) = event {
            findings.push(finding);
        }
    }
    findings
}

#[tokio::test]
async fn a_check_reports_its_progress_in_documents() {
    let (_folder, store) = store().await;
    put_together(&store, 3).await;
    let events: Vec<_> = check(&store, FsckMode::Report).try_collect().await.unwrap();
    assert_eq!(events.first(), Some(&FsckEvent::Progress { documents: 0, documents_total: 3 }));
    assert!(matches!(events.last(), Some(FsckEvent::Done(summary)) if summary.documents == 3));
}

fn missing<T>(read: &Result<T, Error>) -> bool {
    matches!(read, Err(Error::Missing { .. }))
}

/// Stores `count` small documents in one pack.
pub(crate) async fn put_together(store: &Store, count: usize) -> Vec<DocumentId> {
    let in_progress = Vec::from_iter((0..count).map(|_| store.begin_put()));
    let puts = (0..count).map(|number| store.put_manifest(small(&number.to_string())));
    let stored = future::try_join_all(puts).await.unwrap();
    drop(in_progress);
    stored.into_iter().map(|stored| stored.value.id).collect()
}

/// Copies a fixture, which an earlier version wrote, to a temporary folder.
fn copy_fixture(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    let mut folders = vec![fixture.clone()];
    while let Some(from) = folders.pop() {
        fs::create_dir_all(folder.path().join(from.strip_prefix(&fixture).unwrap())).unwrap();
        for entry in fs::read_dir(&from).unwrap() {
            let from = entry.unwrap().path();
            let to = folder.path().join(from.strip_prefix(&fixture).unwrap());
            match from.is_dir() {
                true => folders.push(from),
                false => drop(fs::copy(&from, to).unwrap()),
            }
        }
    }
    folder
}

#[tokio::test]
async fn a_store_of_format_2_is_intact() {
    let folder = copy_fixture("store-v2");
    let store = open(folder.path()).await;
    assert_eq!(findings(&store, FsckMode::Report).await, []);
    assert_eq!(store.documents("", None, 100).await.unwrap().len(), 8);
    assert_eq!(store.names(None).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_store_of_format_1_is_read_and_swept() {
    let folder = copy_fixture("store-v1");
    let store = open(folder.path()).await;
    let id = DocumentId::of(b"text");
    let read = store.manifest(id).await.unwrap().value;
    assert_eq!((read.version, read.bytes()), (Version::NONE, 141));
    let keys = read.keys(&read.shards[0]).unwrap();
    assert_eq!(store.shard(&keys).await.unwrap().windows.len(), 2);
    assert_eq!(findings(&store, FsckMode::Report).await, []);
    store.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(store.manifest(id).await.unwrap().value, read);
    assert_eq!(store.shard(&keys).await.unwrap().windows.len(), 2);
    store.delete(id).await.unwrap();
    assert!(missing(&store.manifest(id).await));
    store.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(files(folder.path(), ""), 0);
}

#[tokio::test]
async fn a_lone_small_document_is_one_file_and_many_are_one_pack() {
    let (folder, store) = store().await;
    store.put_manifest(small("alone")).await.unwrap();
    assert_eq!(files(folder.path(), ""), 1);
    let ids = put_together(&store, 40).await;
    assert_eq!((files(folder.path(), "documents"), files(folder.path(), "packs")), (1, 1));
    let other = open(folder.path()).await;
    for id in &ids {
        let read = other.manifest(*id).await.unwrap().value;
        assert_eq!(read.inline_shard(&read.shards[0]).unwrap().unwrap().windows.len(), 2);
    }
    assert_eq!(other.documents("", None, 100).await.unwrap().len(), 41);
}

#[tokio::test]
async fn a_deleted_document_is_gone_for_every_gateway_and_can_be_put_again() {
    let (folder, store) = store().await;
    let other = open(folder.path()).await;
    let ids = put_together(&store, 20).await;
    other.manifest(ids[3]).await.unwrap();
    store.delete(ids[3]).await.unwrap();
    assert!(missing(&other.manifest(ids[3]).await) && missing(&store.manifest(ids[3]).await));
    assert!(missing(&other.delete(ids[3]).await));
    assert_eq!(other.documents("", None, 100).await.unwrap().len(), 19);
    store.put_manifest(small("3")).await.unwrap();
    other.manifest(ids[3]).await.unwrap();
    // A sweep rewrites a pack of mostly deleted documents, and removes the tombstones of these documents.
    for id in &ids[5..] {
        other.delete(*id).await.unwrap();
    }
    store.sweep(Duration::ZERO).await.unwrap();
    assert_eq!((files(folder.path(), "packs"), files(folder.path(), "deleted")), (1, 0));
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(missing(&other.manifest(*id).await), number >= 5, "{number}");
    }
}

#[tokio::test]
async fn an_expired_document_is_not_found_and_then_removed() {
    let (folder, store) = store().await;
    let mut brief = small("brief");
    brief.expires_unix_ms = Some(now_unix_ms());
    let id = store.put_manifest(brief).await.unwrap().value.id;
    assert!(missing(&store.manifest(id).await) && missing(&store.delete(id).await));
    assert_eq!(store.sweep(Duration::ZERO).await.unwrap().expired, 1);
    assert_eq!(files(folder.path(), ""), 0);
}

#[tokio::test]
async fn a_new_version_replaces_the_old_one() {
    let (folder, store) = store().await;
    let first = store.put_manifest(small("text")).await.unwrap().value;
    let second = store.put_manifest(small("text")).await.unwrap().value;
    assert!(first.version < second.version);
    assert_eq!(files(folder.path(), "documents"), 1);
    assert_eq!(store.manifest(first.id).await.unwrap().value, second);
}

#[tokio::test]
async fn a_sweep_removes_only_old_unreferenced_objects() {
    let (folder, store) = store().await;
    let (kept, kept_names) = large(&store, "kept").await;
    store.put_manifest(kept).await.unwrap();
    let (gone, _) = large(&store, "gone").await;
    let gone = store.put_manifest(gone).await.unwrap().value.id;
    store.delete(gone).await.unwrap();
    let summary = store.sweep(Duration::from_secs(3600)).await.unwrap();
    assert_eq!((summary.pending_deletes, summary.removed), (0, 0));
    let summary = store.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(summary.pending_deletes, 2);
    assert_eq!((files(folder.path(), "latents"), files(folder.path(), "corrections")), (1, 1));
    assert_eq!((files(folder.path(), "gc"), files(folder.path(), "deleted")), (0, 0));
    store.shard(&kept_names).await.unwrap();
    assert_eq!(findings(&store, FsckMode::Report).await, []);
}

#[tokio::test]
async fn pending_objects_are_not_reused() {
    let (_folder, store) = store().await;
    let (document, keys) = large(&store, "text").await;
    let prefix = document.key_prefixes(&document.shards[0]).latents;
    assert!(store.usable_latents(&prefix).await.unwrap().is_some());
    store.pending_deletes.put(&[keys.latents]).await.unwrap();
    assert!(store.usable_latents(&prefix).await.unwrap().is_none());
    // A put that chose the object before it was listed fails.
    let id = document.id;
    let put = store.put_manifest(document).await;
    assert!(matches!(put, Err(Error::Collected { .. })), "{put:?}");
    assert!(missing(&store.manifest(id).await));
}

#[tokio::test]
async fn a_flipped_bit_is_found_and_never_read() {
    let (folder, store) = store().await;
    let packed = put_together(&store, 3).await;
    let alone = store.put_manifest(small("alone")).await.unwrap().value.id;
    let (document, keys) = large(&store, "large").await;
    let large = store.put_manifest(document).await.unwrap().value.id;
    store.write_tombstone(DocumentId::of(b"nobody"), Version::NONE).await.unwrap();
    let mut all = Vec::new();
    for below in ["packs", "documents", "latents", "corrections", "deleted"] {
        let below = object_store::path::Path::from(below);
        let listed: Vec<_> = store.objects.list(&below).try_collect().await.unwrap();
        all.extend(listed.into_iter().map(|object| ObjectKey::from_path(object.location)));
    }
    assert_eq!(all.len(), 1 + 2 + 1 + 1 + 1);
    for key in all {
        let path = path(folder.path(), &key);
        let intact = fs::read(&path).unwrap();
        for byte in (0..intact.len()).step_by(7) {
            let mut flipped = intact.clone();
            flipped[byte] ^= 1 << (byte % 8);
            fs::write(&path, flipped).unwrap();
            let found = findings(&store, FsckMode::Report).await;
            assert!(found.iter().any(|finding| finding.object == key.to_string()), "{key} {byte}: {found:?}");
            let cold = open(folder.path()).await;
            for id in packed.iter().chain([&alone, &large]) {
                if let Ok(read) = cold.manifest(*id).await {
                    assert_eq!(read.value.id, *id);
                }
            }
            if let Ok(shard) = cold.shard(&keys).await {
                assert_eq!(shard.windows.len(), 2);
            }
        }
        fs::write(&path, intact).unwrap();
    }
    assert_eq!(findings(&store, FsckMode::Report).await, []);
}

#[tokio::test]
async fn faults_are_reported_and_repaired_from_other_copies() {
    let (folder, store) = store().await;
    let ids = put_together(&store, 3).await;
    let (first, keys) = large(&store, "large").await;
    let id = store.put_manifest(first).await.unwrap().value.id;
    let flip = |key: &ObjectKey, from_end: usize| {
        let path = path(folder.path(), key);
        let mut object = fs::read(&path).unwrap();
        let at = object.len() - from_end;
        object[at] ^= 1;
        fs::write(path, object).unwrap();
    };
    flip(&keys.latents, 1);
    let found = findings(&store, FsckMode::Report).await;
    let touched = found[0].affected.unwrap();
    assert_eq!((touched.document, touched.first_window, touched.windows), (id, 0, 2));
    // There is no other copy of the shard until another document stores it.
    assert!(findings(&store, FsckMode::Repair).await.iter().any(|finding| !finding.repaired));
    let (again, _) = large(&store, "other").await;
    store.put_manifest(again).await.unwrap();
    assert!(findings(&store, FsckMode::Repair).await.iter().all(|finding| finding.repaired));
    assert_eq!(findings(&store, FsckMode::Repair).await, []);

    // The index of a pack is rebuilt from its records.
    let pack = store.packs.all()[0].key.clone();
    flip(&pack, 20);
    let found = findings(&store, FsckMode::Repair).await;
    assert!(!found.is_empty() && found.iter().all(|finding| finding.repaired), "{found:?}");
    assert_eq!(findings(&store, FsckMode::Report).await, []);
    for id in ids {
        store.manifest(id).await.unwrap();
    }
}

#[tokio::test]
async fn documents_are_listed_by_id_and_prefix() {
    let (_folder, store) = store().await;
    assert!(store.documents("", None, 10).await.unwrap().is_empty());
    let mut ids = put_together(&store, 12).await;
    for number in 12..20 {
        ids.push(store.put_manifest(small(&number.to_string())).await.unwrap().value.id);
    }
    ids.sort();
    let page = |prefix: String, after, limit| {
        let store = &store;
        async move { Vec::from_iter(store.documents(&prefix, after, limit).await.unwrap().into_keys()) }
    };
    assert_eq!(page(String::new(), None, 7).await, ids[..7]);
    assert_eq!(page(String::new(), Some(ids[6]), 7).await, ids[7..14]);
    assert_eq!(page(String::new(), Some(ids[19]), 7).await, []);
    assert_eq!(page(ids[3].to_string(), None, 7).await, [ids[3]]);
    assert_eq!(page(ids[3].to_string()[..5].to_owned(), None, 7).await, [ids[3]]);
    store.delete(ids[3]).await.unwrap();
    assert_eq!(page(ids[3].to_string(), None, 7).await, []);
}

#[tokio::test]
async fn a_changed_document_is_not_switched() {
    let (_folder, store) = store().await;
    let first = store.put_manifest(small("text")).await.unwrap().value;
    let changed = |margin| {
        let verification = Some(Verification { margin, arithmetic: "f32".to_owned() });
        Manifest { verification, ..first.clone() }
    };
    let second = store.switch_manifest(&first, changed(3.0)).await.unwrap().expect("nothing changed").value;
    assert!(store.switch_manifest(&first, changed(4.0)).await.unwrap().is_none());
    assert_eq!(store.manifest(first.id).await.unwrap().value, second);
    store.delete(first.id).await.unwrap();
    let gone = store.switch_manifest(&second, changed(4.0)).await;
    assert!(matches!(gone, Err(Error::Missing { .. })));
    assert!(matches!(store.manifest(first.id).await, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn a_sweep_keeps_the_shards_of_an_unfinished_put() {
    let (_folder, store) = store().await;
    let (large, keys) = large(&store, "text").await;
    let manifest = Manifest { expires_unix_ms: Some(u64::MAX), ..large };
    let record = UploadSession { name: "name".parse().unwrap(), options: Bytes::new(), manifest };
    store.put_upload(&record).await.unwrap();
    store.sweep(Duration::ZERO).await.unwrap();
    store.shard(&keys).await.unwrap();
    store.end_upload(&record.name).await.unwrap();
    store.sweep(Duration::ZERO).await.unwrap();
    assert!(missing(&store.shard(&keys).await));
}

#[tokio::test]
async fn the_space_of_documents_uploads_and_unused_objects_is_told_apart() {
    let (folder, store) = store().await;
    let (manifest, keys) = large(&store, "text").await;
    let usage = async |references: &References| store.usage(references).await.unwrap();
    let unused = usage(&References::default()).await;
    assert_eq!((unused.unused.objects, unused.unused), (2, unused.all));
    let upload = Manifest { expires_unix_ms: Some(u64::MAX), ..manifest.clone() };
    let session = UploadSession { name: "upload".parse().unwrap(), options: Bytes::new(), manifest: upload };
    store.put_upload(&session).await.unwrap();
    let unfinished = usage(&References::default()).await;
    assert_eq!((unfinished.uploads, unfinished.of_uploads.objects, unfinished.unused), (1, 3, Size::default()));
    store.put_manifest(manifest.clone()).await.unwrap();
    fs::write(folder.path().join("foreign"), "not an object").unwrap();
    let mut references = References::default();
    references.add(&manifest);
    let stored = usage(&references).await;
    assert_eq!((stored.all.objects, stored.of_uploads.objects, stored.unused.objects), (4, 1, 0));
    let bytes =
        [keys.latents, keys.corrections.unwrap()].map(|key| path(folder.path(), &key).metadata().unwrap().len());
    assert_eq!(unused.unused.bytes, bytes.iter().sum::<u64>());
}
