//! Names and labels, over a folder.

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

/// A small document that is stored now, and what a name of it is.
async fn stored(store: &Store, text: &str) -> State {
    let manifest = store.put_manifest(small(text)).await.unwrap().value;
    State { document: manifest.id, version: manifest.version, labels: Labels::default() }
}

fn labelled(state: &State, value: &str) -> State {
    let labels = Labels::new([("key".to_owned(), value.to_owned())]).unwrap();
    State { labels, ..state.clone() }
}

async fn set(store: &Store, typed: &str, expected: &Expected, state: &State) -> Change {
    store.change_name(&name(typed), expected, Some(state.clone())).await.unwrap()
}

async fn label(store: &Store, state: &State) -> Change {
    let new = |_: Option<&State>| Ok::<_, Error>(Some(state.clone()));
    store.change_labels(state.document, &Expected::Any, new).await.unwrap()
}

#[track_caller]
fn token(change: &Change) -> String {
    match change {
        Change::Made { now, .. } => now.token(),
        other => panic!("{other:?}"),
    }
}

/// The document that stands under a name.
async fn read(store: &Store, typed: &str) -> Option<DocumentId> {
    let cell = store.name(&name(typed)).await.unwrap();
    store.standing(cell).await.unwrap().and_then(|cell| Some(cell.state?.document))
}

#[tokio::test]
async fn a_name_is_changed_where_it_is_as_expected() {
    let (folder, store) = store().await;
    let other = open(folder.path()).await;
    let (a, b) = (stored(&store, "a").await, stored(&store, "b").await);
    let first = token(&set(&store, "@x", &Expected::Absent, &a).await);
    assert_eq!(read(&other, "@x").await, Some(a.document));
    let refused = set(&other, "@x", &Expected::Absent, &b).await;
    assert!(matches!(refused, Change::Unexpected { there: Some(there) } if there == first));
    let second = token(&set(&other, "@x", &Expected::Token(first.clone()), &b).await);
    assert_eq!(read(&store, "@x").await, Some(b.document));
    // The same document again is another state.
    let third = token(&set(&store, "@x", &Expected::Any, &b).await);
    for old in [first, second.clone()] {
        let refused = set(&store, "@x", &Expected::Token(old), &a).await;
        assert!(matches!(refused, Change::Unexpected { .. }), "{refused:?}");
    }
    assert_ne!(second, third);
    assert_eq!(files(folder.path(), "names"), 2);
    let removed = other.change_name(&name("@x"), &Expected::Token(third), None).await.unwrap();
    assert!(matches!(removed, Change::Made { was: Some(_), .. }));
    assert_eq!(read(&store, "@x").await, None);
    let again = other.change_name(&name("@x"), &Expected::Any, None).await.unwrap();
    assert!(matches!(again, Change::Nothing));
    store.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(files(folder.path(), "names"), 0);
    set(&store, "@x", &Expected::Absent, &a).await;
    assert_eq!(read(&other, "@x").await, Some(a.document));
}

#[tokio::test]
async fn one_writer_makes_the_next_generation() {
    let (folder, store) = store().await;
    let others = [open(folder.path()).await, open(folder.path()).await];
    let state = stored(&store, "a").await;
    let family = key::of_name(&name("@x"));
    let mut from = None;
    for _ in 0..20 {
        let writers = others.iter().cycle().take(8);
        let tries = writers.map(|store| {
            store.compare_and_set(ObjectKind::Name, &family, from.as_ref(), Some(state.clone()))
        });
        let made = future::try_join_all(tries).await.unwrap();
        let made = Vec::from_iter(made.into_iter().flatten());
        assert_eq!(made.len(), 1);
        assert_eq!(store.register(ObjectKind::Name, &family).await.unwrap().as_ref(), made.first());
        from = made.into_iter().next();
    }
}

#[tokio::test]
async fn a_writer_that_slept_was_too_late() {
    let (folder, store) = store().await;
    let (a, b) = (stored(&store, "a").await, stored(&store, "b").await);
    let (family, kind) = (key::of_name(&name("@x")), ObjectKind::Name);
    set(&store, "@x", &Expected::Any, &a).await;
    let asleep = store.register(kind, &family).await.unwrap();
    let wakes =
        async || store.compare_and_set(kind, &family, asleep.as_ref(), Some(b.clone())).await.unwrap();
    for _ in 0..5 {
        set(&store, "@x", &Expected::Any, &a).await;
        assert_eq!(wakes().await, None);
        assert_eq!(read(&store, "@x").await, Some(a.document));
    }
    // All generations are gone; what it writes is the only one, and is taken back.
    store.change_name(&name("@x"), &Expected::Any, None).await.unwrap();
    store.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(files(folder.path(), "names"), 0);
    assert_eq!(wakes().await, None);
    assert_eq!(files(folder.path(), "names"), 0);
    // Nor does it meet what was made anew.
    set(&store, "@x", &Expected::Absent, &a).await;
    assert_eq!(wakes().await, None);
    assert_eq!(read(&store, "@x").await, Some(a.document));
}

#[tokio::test]
async fn with_a_document_its_names_and_labels_are_gone() {
    let (folder, store) = store().await;
    let state = stored(&store, "a").await;
    let forgotten = async |store: &Store| {
        read(store, "@x").await.is_none() && store.labels(state.document).await.unwrap().is_none()
    };
    set(&store, "@x", &Expected::Any, &state).await;
    label(&store, &labelled(&state, "v")).await;
    // A new version is the same document.
    let again = stored(&store, "a").await;
    assert!(again.version > state.version && !forgotten(&store).await);
    store.delete(state.document).await.unwrap();
    assert!(forgotten(&store).await);
    assert_eq!(findings(&store, FsckMode::Report).await, []);
    // The same text put again is another document, before and after a sweep.
    let again = stored(&store, "a").await;
    assert!(forgotten(&store).await);
    store.sweep(Duration::ZERO).await.unwrap();
    assert_eq!((files(folder.path(), "names"), files(folder.path(), "labels")), (0, 0));
    assert!(forgotten(&store).await);
    assert!(matches!(set(&store, "@x", &Expected::Absent, &again).await, Change::Made { was: None, .. }));
}

#[tokio::test]
async fn tombstones_stay_while_a_name_needs_them() {
    let (folder, store) = store().await;
    let state = stored(&store, "a").await;
    store.delete(state.document).await.unwrap();
    let tombstone = path(folder.path(), &key::tombstone(state.document, state.version));
    let old = std::time::SystemTime::now() - Duration::from_secs(100);
    fs::File::open(&tombstone).unwrap().set_modified(old).unwrap();
    // Set by a gateway that read the document before it was deleted.
    set(&store, "@x", &Expected::Any, &state).await;
    store.sweep(Duration::from_secs(50)).await.unwrap();
    stored(&store, "a").await;
    assert_eq!(read(&store, "@x").await, None);
    assert!(tombstone.exists());
    store.sweep(Duration::ZERO).await.unwrap();
    assert!(!tombstone.exists());
    assert_eq!(files(folder.path(), "names"), 0);
}

#[tokio::test]
async fn what_expired_takes_its_names_and_labels_with_it() {
    let (_folder, store) = store().await;
    let mut brief = small("brief");
    brief.expires_unix_ms = Some(now_unix_ms());
    let brief = store.put_manifest(brief).await.unwrap().value;
    let state = State { document: brief.id, version: brief.version, labels: Labels::default() };
    set(&store, "@x", &Expected::Any, &state).await;
    label(&store, &labelled(&state, "v")).await;
    assert_eq!(read(&store, "@x").await, None);
    assert_eq!(findings(&store, FsckMode::Report).await, []);
    stored(&store, "brief").await;
    assert_eq!(read(&store, "@x").await, None);
    assert!(store.labels(brief.id).await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_killed_writer_left_is_swept() {
    let (folder, store) = store().await;
    let state = stored(&store, "a").await;
    let (family, kind) = (key::of_name(&name("@x")), ObjectKind::Name);
    set(&store, "@x", &Expected::Any, &state).await;
    let first = family.at(Version::from_bits(1));
    let kept = fs::read(path(folder.path(), &first)).unwrap();
    for _ in 0..2 {
        set(&store, "@x", &Expected::Any, &state).await;
    }
    fs::write(path(folder.path(), &first), kept).unwrap();
    assert_eq!(files(folder.path(), "names"), 3);
    let before = store.register(kind, &family).await.unwrap();
    store.sweep(Duration::ZERO).await.unwrap();
    assert_eq!(files(folder.path(), "names"), 2);
    assert_eq!(store.register(kind, &family).await.unwrap(), before);
}

#[tokio::test]
async fn names_are_listed_by_namespace() {
    let (_folder, store) = store().await;
    let state = stored(&store, "a").await;
    for typed in ["@b", "@a", "@.a", "@..a", "@書", "@team/a", "@team b/a"] {
        set(&store, typed, &Expected::Any, &state).await;
        assert_eq!(read(&store, typed).await, Some(state.document), "{typed}");
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
async fn damage_is_found_never_read_and_repaired() {
    let (folder, store) = store().await;
    let state = stored(&store, "a").await;
    for _ in 0..2 {
        set(&store, "@x", &Expected::Any, &state).await;
    }
    label(&store, &labelled(&state, "v")).await;
    let newest = key::of_name(&name("@x")).at(Version::from_bits(2));
    let labels = key::of_document(LABELS, state.document).at(Version::from_bits(1));
    for object in [&newest, &labels] {
        let path = path(folder.path(), object);
        let intact = fs::read(&path).unwrap();
        for byte in (0..intact.len()).step_by(5) {
            let mut flipped = intact.clone();
            flipped[byte] ^= 1 << (byte % 8);
            fs::write(&path, flipped).unwrap();
            let found = findings(&store, FsckMode::Report).await;
            assert!(found.iter().any(|finding| finding.object == object.to_string()), "{byte}: {found:?}");
            let kind = if object == &newest { ObjectKind::Name } else { ObjectKind::Labels };
            let read = store.read_register(kind, object).await;
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
async fn a_name_of_a_document_that_never_was_is_found() {
    let (_folder, store) = store().await;
    let state = State {
        document: DocumentId::of(b"nobody"),
        version: Version::after(Version::NONE),
        labels: Labels::default(),
    };
    set(&store, "@x", &Expected::Any, &state).await;
    let found = findings(&store, FsckMode::Repair).await;
    assert_eq!(found.len(), 1);
    assert!(found[0].problem.contains("missing") && found[0].repaired, "{found:?}");
    assert_eq!(findings(&store, FsckMode::Report).await, []);
}
