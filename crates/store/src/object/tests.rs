use c3_types::DocumentId;
use futures::TryStreamExt;

use super::*;
use crate::object::key;
use crate::object::version::Version;

#[tokio::test]
async fn objects_are_created_once_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::open(&folder.path().to_str().unwrap().into()).await.unwrap();
    let id = DocumentId::of(b"a");
    let key = key::manifest(id, Version::NONE);
    assert!(matches!(objects.get(&key).await, Err(Error::Missing { .. })));
    objects.delete(&key).await.unwrap();

    let first = objects.put(&key, b"first", Space::Free).await.unwrap();
    assert_eq!(first, PutOutcome::Created { bytes: 42 + 5 });
    assert_eq!(objects.put(&key, b"second", Space::Free).await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(objects.get(&key).await.unwrap().0, "first");
    assert_eq!(objects.read_range(&key, 42..44).await.unwrap(), "fi");
    for past in [40..48, 50..60] {
        let read = objects.read_range(&key, past).await;
        assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
    }

    let newer = key::manifest(id, Version::after(Version::NONE));
    objects.put(&newer, b"newer", Space::Free).await.unwrap();
    let other = key::manifest(DocumentId::of(b"b"), Version::NONE);
    objects.put(&other, b"other", Space::Free).await.unwrap();
    let all = objects.versions(&key::document_prefix(key::DOCUMENTS, id)).await.unwrap();
    assert_eq!(all, [key.clone(), newer]);
    objects.delete(&key).await.unwrap();
    assert!(matches!(objects.get(&key).await, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn an_absurdly_large_object_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Objects::open(&folder.path().to_str().unwrap().into()).await.unwrap();
    let key = key::manifest(DocumentId::of(b"a"), Version::NONE);
    objects.put(&key, b"first", Space::Free).await.unwrap();
    let path = folder.path().join(key.to_string());
    // A sparse file, which takes no space.
    std::fs::File::options().write(true).open(path).unwrap().set_len(OBJECT_BYTES_MAX + 1).unwrap();
    assert!(objects.get(&key).await.unwrap_err().to_string().contains("more than"));
}

#[tokio::test]
async fn foreign_keys_of_a_bucket_are_skipped_and_counted() {
    let store = Arc::new(object_store::memory::InMemory::new());
    let objects = Objects::in_memory(store.clone(), MasterKeys::default());
    let key = key::manifest(DocumentId::of(b"a"), Version::NONE);
    objects.put(&key, b"", Space::Free).await.unwrap();
    for foreign in ["mine", "documents/mine", "latents/ab/mine", "meta/identity"] {
        store.put(&Path::from(foreign), Bytes::new().into()).await.unwrap();
    }
    let listed: Vec<_> = objects.list(&Path::ROOT).try_collect().await.unwrap();
    assert_eq!(listed.into_iter().map(|object| object.location).collect::<Vec<_>>(), [key.path().clone()]);
    assert_eq!(objects.survey().await.unwrap().foreign, 3);
}
