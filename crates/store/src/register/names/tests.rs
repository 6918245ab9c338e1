//! Names and labels in a local folder.

use std::fs;
use std::time::Duration;

use c3_types::Labels;
use futures::future;

use super::*;
use crate::object::version::now_unix_ms;
use crate::tests::{files, findings, open, path, small, store};
use c3_types::FsckMode;

fn name(typed: &str) -> DocumentName {
    typed.parse().unwrap()
}

/// Stores a small document and returns the value of a name that refers to it.
async fn stored(store: &Store, text: &str) -> RegisterValue {
    let manifest = store.put_manifest(small(text)).await.unwrap().value;
    RegisterValue { document: manifest.id, version: manifest.version, labels: Labels::default() }
}

fn labelled(value: &RegisterValue, label: &str) -> RegisterValue {
    let labels = Labels::new([("key".to_owned(), label.to_owned())]).unwrap();
    RegisterValue { labels, ..value.clone() }
}

async fn set(store: &Store, typed: &str, expected: &Expected, value: &RegisterValue) -> Change {
    store.change_name(&name(typed), expected, Some(value.clone())).await.unwrap()
}

async fn label(store: &Store, value: &RegisterValue) -> Change {
    let new = |_: Option<&RegisterValue>| Ok::<_, Error>(Some(value.clone()));
    store.change_labels(value.document, &Expected::Any, new).await.unwrap()
}

#[track_caller]
fn token(change: &Change) -> String {
    match change {
        Change::Applied { now, .. } => now.token(),
        other => panic!("{other:?}"),
    }
}

/// Returns the document to which a name refers, if the name is live.
async fn read(store: &Store, typed: &str) -> Option<DocumentId> {
    let register = store.name(&name(typed)).await.unwrap();
    store.live(register).await.unwrap().and_then(|register| Some(register.value?.document))
}

#[tokio::test]
async fn a_name_is_changed_only_if_it_is_as_expected() {
    let (folder, store) = store().await;
    let other = open(folder.path()).await;
    let (a, b) = (stored(&store, "a").await, stored(&store, "b").await);
    let first = token(&set(&store, "@x", &Expected::Absent, &a).await);
    assert_eq!(read(&other, "@x").await, Some(a.document));
    let refused = set(&other, "@x", &Expected::Absent, &b).await;
    assert!(matches!(refused, Change::Conflict { token: Some(token) } if token == first));
    let second = token(&set(&other, "@x", &Expected::Token(first.clone()), &b).await);
    assert_eq!(read(&store, "@x").await, Some(b.document));
    // Setting the same document again yields another token.
    let third = token(&set(&store, "@x", &Expected::Any, &b).await);
    for old in [first, second.clone()] {
        let refused = set(&store, "@x", &Expected::Token(old), &a).await;
        assert!(matches!(refused, Change::Conflict { .. }), "{refused:?}");
    }
    assert_ne!(second, third);
    assert_eq!(files(folder.path(), "names"), 2);
    let removed = other.change_name(&name("@x"), &Expected::Token(third), None).await.unwrap();
    assert!(matches!(removed, Change::Applied { was: Some(_), .. }));
    assert_eq!(read(&store, "@x").await, None);
    let again = other.change_name(&name("@x"), &Expected::Any, None).await.unwrap();
    assert!(matches!(again, Change::Unchanged));
    store.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(files(folder.path(), "names"), 0);
    set(&store, "@x", &Expected::Absent, &a).await;
    assert_eq!(read(&other, "@x").await, Some(a.document));
}

#[tokio::test]
async fn one_of_concurrent_writers_wins() {
    let (folder, store) = store().await;
    let others = [open(folder.path()).await, open(folder.path()).await];
    let value = stored(&store, "a").await;
    let prefix = key::name_prefix(&name("@x"));
    let mut from = None;
    for _ in 0..20 {
        let writers = others.iter().cycle().take(8);
        let attempts = writers.map(|store| store.compare_and_set(&prefix, from.as_ref(), Some(value.clone())));
        let made = future::try_join_all(attempts).await.unwrap();
        let made = Vec::from_iter(made.into_iter().flatten());
        assert_eq!(made.len(), 1);
        assert_eq!(store.register(&prefix).await.unwrap().as_ref(), made.first());
        from = made.into_iter().next();
    }
}

#[tokio::test]
async fn a_suspended_writer_loses() {
    let (folder, store) = store().await;
    let (a, b) = (stored(&store, "a").await, stored(&store, "b").await);
    let prefix = key::name_prefix(&name("@x"));
    set(&store, "@x", &Expected::Any, &a).await;
    let suspended = store.register(&prefix).await.unwrap();
    let resume = async || store.compare_and_set(&prefix, suspended.as_ref(), Some(b.clone())).await.unwrap();
    for _ in 0..5 {
        set(&store, "@x", &Expected::Any, &a).await;
        assert_eq!(resume().await, None);
        assert_eq!(read(&store, "@x").await, Some(a.document));
    }
    // Once all generations are deleted, the writer creates one, detects that it lost, and deletes it.
    store.change_name(&name("@x"), &Expected::Any, None).await.unwrap();
    store.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(files(folder.path(), "names"), 0);
    assert_eq!(resume().await, None);
    assert_eq!(files(folder.path(), "names"), 0);
    // The writer also loses after the name was set again.
    set(&store, "@x", &Expected::Absent, &a).await;
    assert_eq!(resume().await, None);
    assert_eq!(read(&store, "@x").await, Some(a.document));
}

#[tokio::test]
async fn deleting_a_document_deletes_its_names_and_labels() {
    let (folder, store) = store().await;
    let value = stored(&store, "a").await;
    let is_gone = async |store: &Store| {
        read(store, "@x").await.is_none() && store.labels(value.document).await.unwrap().is_none()
    };
    set(&store, "@x", &Expected::Any, &value).await;
    label(&store, &labelled(&value, "v")).await;
    // A new version of the document keeps its name and labels.
    let again = stored(&store, "a").await;
    assert!(again.version > value.version && !is_gone(&store).await);
    store.delete(value.document).await.unwrap();
    assert!(is_gone(&store).await);
    assert_eq!(findings(&store, FsckMode::Report).await, []);
    // Name and labels do not reappear when the same text is put again, neither before a sweep nor after it.
    let again = stored(&store, "a").await;
    assert!(is_gone(&store).await);
    store.sweep(Duration::ZERO).await.unwrap();
    assert_eq!((files(folder.path(), "names"), files(folder.path(), "labels")), (0, 0));
    assert!(is_gone(&store).await);
    assert!(matches!(set(&store, "@x", &Expected::Absent, &again).await, Change::Applied { was: None, .. }));
}

#[tokio::test]
async fn tombstones_stay_while_a_name_needs_them() {
    let (folder, store) = store().await;
    let value = stored(&store, "a").await;
    store.delete(value.document).await.unwrap();
    let tombstone = path(folder.path(), &key::tombstone(value.document, value.version));
    let old = std::time::SystemTime::now() - Duration::from_secs(100);
    fs::File::open(&tombstone).unwrap().set_modified(old).unwrap();
    // A gateway that read the document before the delete sets a name for it.
    set(&store, "@x", &Expected::Any, &value).await;
    store.sweep(Duration::from_secs(50)).await.unwrap();
    stored(&store, "a").await;
    assert_eq!(read(&store, "@x").await, None);
    assert!(tombstone.exists());
    store.sweep(Duration::ZERO).await.unwrap();
    assert!(!tombstone.exists());
    assert_eq!(files(folder.path(), "names"), 0);
}

#[tokio::test]
async fn expiry_deletes_names_and_labels() {
    let (_folder, store) = store().await;
    let mut brief = small("brief");
    brief.expires_unix_ms = Some(now_unix_ms());
    let brief = store.put_manifest(brief).await.unwrap().value;
    let value = RegisterValue { document: brief.id, version: brief.version, labels: Labels::default() };
    set(&store, "@x", &Expected::Any, &value).await;
    label(&store, &labelled(&value, "v")).await;
    assert_eq!(read(&store, "@x").await, None);
    assert_eq!(findings(&store, FsckMode::Report).await, []);
    stored(&store, "brief").await;
    assert_eq!(read(&store, "@x").await, None);
    assert!(store.labels(brief.id).await.unwrap().is_none());
}

#[tokio::test]
async fn generations_of_a_killed_writer_are_swept() {
    let (folder, store) = store().await;
    let value = stored(&store, "a").await;
    let prefix = key::name_prefix(&name("@x"));
    set(&store, "@x", &Expected::Any, &value).await;
    let first = prefix.at(Version::from_bits(1));
    let kept = fs::read(path(folder.path(), &first)).unwrap();
    for _ in 0..2 {
        set(&store, "@x", &Expected::Any, &value).await;
    }
    fs::write(path(folder.path(), &first), kept).unwrap();
    assert_eq!(files(folder.path(), "names"), 3);
    let before = store.register(&prefix).await.unwrap();
    store.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(files(folder.path(), "names"), 2);
    assert_eq!(store.register(&prefix).await.unwrap(), before);
}

#[tokio::test]
async fn names_are_listed_by_namespace() {
    let (_folder, store) = store().await;
    let value = stored(&store, "a").await;
    for typed in ["@b", "@a", "@.a", "@..a", "@書", "@team/a", "@team b/a"] {
        set(&store, typed, &Expected::Any, &value).await;
        assert_eq!(read(&store, typed).await, Some(value.document), "{typed}");
    }
    let listed = async |namespace: Option<&str>| {
        let namespace = namespace.map(|namespace| namespace.parse::<Namespace>().unwrap());
        let names = store.names(namespace.as_ref()).await.unwrap();
        Vec::from_iter(names.into_keys().map(|name| name.to_string()))
    };
    assert_eq!(listed(Some("default")).await, ["@..a", "@.a", "@a", "@b", "@書"]);
    assert_eq!(listed(Some("team")).await, ["@team/a"]);
    assert_eq!(listed(Some("nobody")).await.len(), 0);
    assert_eq!(listed(None).await.len(), 7);
}

#[tokio::test]
async fn damage_is_found_and_repaired_but_never_read() {
    let (folder, store) = store().await;
    let value = stored(&store, "a").await;
    for _ in 0..2 {
        set(&store, "@x", &Expected::Any, &value).await;
    }
    label(&store, &labelled(&value, "v")).await;
    let newest = key::name_prefix(&name("@x")).at(Version::from_bits(2));
    let labels = key::document_prefix(LABELS, value.document).at(Version::from_bits(1));
    for object in [&newest, &labels] {
        let path = path(folder.path(), object);
        let intact = fs::read(&path).unwrap();
        for byte in (0..intact.len()).step_by(5) {
            let mut flipped = intact.clone();
            flipped[byte] ^= 1 << (byte % 8);
            fs::write(&path, flipped).unwrap();
            let found = findings(&store, FsckMode::Report).await;
            assert!(found.iter().any(|finding| finding.object == object.to_string()), "{byte}: {found:?}");
            let read = store.read_register(object).await;
            assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
        }
        fs::write(&path, &intact[..intact.len() - 1]).unwrap();
    }
    assert!(matches!(store.name(&name("@x")).await, Err(Error::Damaged { .. })));
    let repaired = findings(&store, FsckMode::Repair).await;
    assert!(repaired.len() == 2 && repaired.iter().all(|finding| finding.repaired), "{repaired:?}");
    assert_eq!(findings(&store, FsckMode::Report).await, []);
    assert_eq!(read(&store, "@x").await, None);
}

#[tokio::test]
async fn a_name_of_an_unknown_document_is_a_fault() {
    let (_folder, store) = store().await;
    let value = RegisterValue {
        document: DocumentId::of(b"nobody"),
        version: Version::after(Version::NONE),
        labels: Labels::default(),
    };
    set(&store, "@x", &Expected::Any, &value).await;
    let found = findings(&store, FsckMode::Repair).await;
    assert_eq!(found.len(), 1);
    assert!(found[0].problem.contains("missing") && found[0].repaired, "{found:?}");
    assert_eq!(findings(&store, FsckMode::Report).await, []);
}
