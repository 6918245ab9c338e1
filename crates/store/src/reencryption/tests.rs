use std::fs;
use std::path::Path as FsPath;
use std::sync::Arc;

use c3_types::{DocumentId, Expected, FsckMode, Labels};
use futures::future;

use super::*;
use crate::encryption::master::MasterKeySource;
use crate::manifest::Manifest;
use crate::object::key::{self, DELETED};
use crate::object::version::Version;
use crate::register::RegisterValue;
use crate::tests::{findings, large, open, put_together, small};
use crate::upload_session::UploadSession;
use crate::{BackendSettings, OpenError, Stores};

/// Returns the source of a master key made of this byte.
fn master(byte: u8) -> MasterKeySource {
    MasterKeySource::parse("env:KEY", |_| Some(hex::encode([byte; 32])))
}

fn settings(folder: &FsPath, masters: &[u8]) -> BackendSettings {
    let master_keys = masters.iter().map(|&byte| master(byte)).collect();
    BackendSettings { master_keys, ..folder.to_str().unwrap().into() }
}

async fn open_sealed(folder: &FsPath) -> Store {
    Store::open(settings(folder, &[1])).await.unwrap()
}

/// A store with an object of each kind, and what must be found in it.
struct Content {
    documents: Vec<DocumentId>,
    deleted: DocumentId,
    upload: UploadSession,
}

impl Content {
    async fn write(store: &Store) -> Self {
        let mut documents = put_together(store, 12).await;
        let (large, _) = large(store, "large").await;
        documents.push(store.put_manifest(large).await.unwrap().value.id);
        for number in 0..8 {
            documents.push(store.put_manifest(small(&format!("alone {number}"))).await.unwrap().value.id);
        }
        let deleted = store.put_manifest(small("deleted")).await.unwrap().value.id;
        store.delete(deleted).await.unwrap();
        let value = |id: DocumentId, labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string()));
            let labels = Labels::new(Vec::from_iter(labels)).unwrap();
            RegisterValue { document: id, version: Version::after(Version::NONE), labels }
        };
        let named = value(documents[0], &[]);
        store.change_name(&"@team/book".parse().unwrap(), &Expected::Any, Some(named)).await.unwrap();
        let labelled = value(documents[1], &[("lang", "en")]);
        store.change_labels(documents[1], &Expected::Any, |_| Ok::<_, Error>(Some(labelled.clone()))).await.unwrap();
        let manifest = Manifest { expires_unix_ms: Some(u64::MAX), ..small("unfinished") };
        let upload = UploadSession { name: "unfinished".parse().unwrap(), options: Bytes::new(), manifest };
        store.put_upload(&upload).await.unwrap();
        let pending = ObjectKey::from_path(Path::from("latents/none"));
        store.pending_deletes.put(&[pending]).await.unwrap();
        documents.sort_unstable();
        Self { documents, deleted, upload }
    }

    async fn check(&self, store: &Store) {
        let listed = store.documents("", None, 100).await.unwrap();
        assert_eq!(Vec::from_iter(listed.into_keys()), self.documents);
        for &id in &self.documents {
            let manifest = store.manifest(id).await.unwrap().value;
            if let Some(keys) = manifest.keys(&manifest.shards[0]) {
                store.shard(&keys).await.unwrap();
            }
            let digits = &id.to_string()[..6];
            assert_eq!(Vec::from_iter(store.documents(digits, None, 1).await.unwrap().into_keys()), [id]);
        }
        assert!(matches!(store.manifest(self.deleted).await, Err(Error::Missing { .. })));
        let name = "@team/book".parse().unwrap();
        assert!(store.name(&name).await.unwrap().unwrap().value.is_some());
        let names = store.names_after(&"team".parse().unwrap(), None).map_ok(|(name, _)| name);
        assert_eq!(names.try_collect::<Vec<_>>().await.unwrap(), [name]);
        assert_eq!(store.upload(&self.upload.name).await.unwrap().as_ref(), Some(&self.upload));
        assert!(store.pending_deletes.load().await.unwrap().contains(&ObjectKey::from_path("latents/none".into())));
        assert_eq!(findings(store, FsckMode::Report).await, []);
        assert_eq!(store.objects.survey().await.unwrap().foreign, 0);
    }

    /// Asserts that no path or content in the folder reveals a key or a plain object.
    fn check_hidden(&self, folder: &FsPath) {
        let mut revealing = vec!["book".to_owned(), "team".to_owned(), "unfinished".to_owned(), "C3 store".to_owned()];
        let prefixes = small("x").key_prefixes(&small("x").shards[0]);
        revealing.extend(prefixes.latents.path().parts().map(|part| part.as_ref().to_owned()).filter(|p| p.len() > 40));
        revealing.extend(self.documents.iter().chain([&self.deleted]).map(ToString::to_string));
        let raw = self.documents.iter().map(|id| id.as_bytes().to_vec());
        let revealing = Vec::from_iter(revealing.into_iter().map(String::into_bytes).chain(raw));
        let mut files = 0;
        for entry in walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap) {
            let path = entry.path().strip_prefix(folder).unwrap();
            let is_file = entry.file_type().is_file() && !path.starts_with("meta/reserve");
            let content = if is_file { fs::read(entry.path()).unwrap() } else { Vec::new() };
            files += usize::from(is_file);
            for text in &revealing {
                for bytes in [path.to_str().unwrap().as_bytes(), &content] {
                    assert!(!bytes.windows(text.len()).any(|window| window == text), "{}", path.display());
                }
            }
        }
        assert!(files > 10);
    }
}

async fn encrypt(store: &Store, mode: EncryptMode) -> EncryptProgress {
    let last = store.encrypt(mode).try_fold(None, |_, progress| future::ok(Some(progress)));
    last.await.unwrap().unwrap()
}

#[tokio::test]
async fn an_encrypted_store_works_and_reveals_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_sealed(folder.path()).await;
    let content = Content::write(&store).await;
    for store in [store, open_sealed(folder.path()).await] {
        content.check(&store).await;
        content.check_hidden(folder.path());
        let status = store.key_status().await.unwrap();
        assert_eq!((status.data_keys, status.plain, status.master_keys.len()), (vec![1], Size::default(), 1));
    }
    for (masters, expected) in [(&[][..], "give its master key with --master-key"), (&[2], "are wrapped by master key")]
    {
        let refused = Store::open(settings(folder.path(), masters)).await.err().expect("must be refused");
        let message = refused.to_string();
        assert!(matches!(refused, OpenError::Encrypted { .. }) && message.contains(expected), "{message}");
        assert!(!message.contains('\n') && !message.contains(&hex::encode([1; 32])), "{message}");
    }
}

#[tokio::test]
async fn a_plain_store_is_encrypted_in_place_and_used_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let content = Content::write(&open(folder.path()).await).await;
    let store = open_sealed(folder.path()).await;
    content.check(&store).await;
    assert!(store.key_status().await.unwrap().plain.objects > 15);
    // Objects are written and deleted while the store is mixed.
    let added = store.put_manifest(small("added")).await.unwrap().value.id;
    store.delete(added).await.unwrap();
    store.delete(content.documents[3]).await.unwrap();
    store.put_manifest(small("alone 1")).await.unwrap();

    let store = open_sealed(folder.path()).await;
    let busy = store.lock_encryption().unwrap();
    let refused = store.encrypt(EncryptMode::Plain).try_for_each(|_| future::ok(())).await.unwrap_err();
    assert!(refused.root_cause().contains("another run"), "{refused}");
    drop(busy);
    let progress = encrypt(&store, EncryptMode::Plain).await;
    assert!(progress.is_done && progress.damaged.is_empty() && progress.encrypted.objects > 15, "{progress:?}");
    let again = encrypt(&store, EncryptMode::Plain).await;
    assert_eq!((again.encrypted, store.key_status().await.unwrap().plain), (Size::default(), Size::default()));
    let mut content = content;
    content.documents.remove(3);
    for store in [store, open_sealed(folder.path()).await] {
        content.check(&store).await;
    }
    content.check_hidden(folder.path());
}

#[tokio::test]
async fn an_interrupted_move_is_completed_and_a_concurrent_delete_is_not_undone() {
    let folder = tempfile::tempdir().unwrap();
    let plain = open(folder.path()).await;
    let [first, second] = ["first", "second"].map(small);
    let first = plain.put_manifest(first).await.unwrap().value;
    let second = plain.put_manifest(second).await.unwrap().value;
    let store = open_sealed(folder.path()).await;
    // The run was killed after it created the encrypted object.
    let key = key::manifest(first.id, first.version);
    let ring = store.objects.ring().await.unwrap();
    let (path, target) = (ring.path(Realm::Plain, key.path()), ring.path(Realm::Sealed, key.path()));
    let envelope = store.objects.read(&key).await.unwrap();
    store.objects.backend().put(&target, ring.seal(envelope.clone()).into()).await.unwrap();
    assert_eq!(store.documents("", None, 10).await.unwrap().len(), 2);
    assert_eq!(store.objects.list(&Path::from("documents")).try_collect::<Vec<_>>().await.unwrap().len(), 2);
    assert!(store.move_object(&key, &path, envelope).await.unwrap());
    assert_eq!(store.manifest(first.id).await.unwrap().value, first);

    // The object was deleted after the run read it.
    let key = key::manifest(second.id, second.version);
    let envelope = store.objects.read(&key).await.unwrap();
    store.objects.delete(&key).await.unwrap();
    assert!(store.move_object(&key, key.path(), envelope).await.unwrap());
    assert!(!store.objects.exists(&key).await.unwrap());
}

#[tokio::test]
async fn a_new_data_key_encrypts_all_objects_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_sealed(folder.path()).await;
    let content = Content::write(&store).await;
    let other = open_sealed(folder.path()).await;
    assert_eq!(store.rotate_keys().await.unwrap(), Rotation { data_key: 2, rewrapped: 0 });
    let added = store.put_manifest(small("added")).await.unwrap().value.id;
    // A gateway that does not know the new key yet finds it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(other.manifest(added).await.unwrap().value.id, added);
    store.delete(added).await.unwrap();
    content.check(&store).await;

    assert_eq!(encrypt(&store, EncryptMode::Plain).await.encrypted, Size::default());
    let progress = encrypt(&store, EncryptMode::Outdated).await;
    assert!(progress.encrypted.objects > 15 && progress.damaged.is_empty(), "{progress:?}");
    // Gateways may still use the former key.
    assert!(progress.retired.is_empty());
    content.check(&other).await;
    let long_ago = SystemTime::now() - 2 * KEY_SETTLED;
    File::options().write(true).open(folder.path().join("meta/keys/2")).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(encrypt(&store, EncryptMode::Outdated).await.retired, [1]);
    assert_eq!(store.key_status().await.unwrap().data_keys, [2]);
    content.check(&open_sealed(folder.path()).await).await;
    content.check_hidden(folder.path());
}

#[tokio::test]
async fn a_new_master_key_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let content = Content::write(&open_sealed(folder.path()).await).await;
    let both = Store::open(settings(folder.path(), &[2, 1])).await.unwrap();
    assert_eq!(both.rotate_keys().await.unwrap(), Rotation { data_key: 2, rewrapped: 2 });
    content.check(&Store::open(settings(folder.path(), &[2])).await.unwrap()).await;
    assert!(Store::open(settings(folder.path(), &[1])).await.is_err());
}

#[tokio::test]
async fn a_shredded_tenant_is_gone_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let stores = Stores::open(settings(folder.path(), &[1])).await.unwrap();
    let [root, acme] = ["default", "acme"].map(|name| stores.tenant(&name.parse().unwrap()));
    let (kept, lost) = (Content::write(&root).await, Content::write(&acme).await);
    let copy = tempfile::tempdir().unwrap();
    let sealed = walkdir::WalkDir::new(folder.path().join("tenants/acme/sealed")).into_iter().map(Result::unwrap);
    let sealed = Vec::from_iter(sealed.filter(|entry| entry.file_type().is_file()));
    for (number, entry) in sealed.iter().enumerate() {
        fs::copy(entry.path(), copy.path().join(number.to_string())).unwrap();
    }
    let shredder = stores.tenant(&"acme".parse().unwrap());
    assert_eq!(shredder.shred().await.unwrap().objects, sealed.len() as u64);
    assert_eq!(shredder.shred().await.unwrap().objects, 0);

    // A gateway that has the tenant open forgets its keys at the next listing.
    assert!(matches!(acme.objects.keys().load(Duration::ZERO).await, Err(KeyError::Destroyed)));
    assert!(acme.is_shredded());
    let read = acme.manifest(lost.documents[0]).await;
    assert!(matches!(read, Err(Error::Unavailable { reason: crate::Unavailable::Shredded, .. })), "{read:?}");
    let put = stores.tenant(&"acme".parse().unwrap()).put_manifest(small("new")).await;
    assert!(matches!(put, Err(Error::Unavailable { reason: crate::Unavailable::Shredded, .. })), "{put:?}");
    kept.check(&root).await;
    let ring = root.objects.ring().await.unwrap();
    for number in 0..sealed.len() {
        let bytes: Bytes = fs::read(copy.path().join(number.to_string())).unwrap().into();
        assert!(ring.open(bytes).is_err());
    }
}

#[tokio::test]
async fn swapped_and_copied_objects_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let stores = Stores::open(settings(folder.path(), &[1])).await.unwrap();
    let [root, acme] = ["default", "acme"].map(|name| stores.tenant(&name.parse().unwrap()));
    let mut paths = Vec::new();
    let ring = root.objects.ring().await.unwrap();
    for text in ["first", "second"] {
        let manifest = root.put_manifest(small(text)).await.unwrap().value;
        let key = key::manifest(manifest.id, manifest.version);
        paths.push((manifest.id, folder.path().join(ring.path(Realm::Sealed, key.path()).as_ref())));
    }
    let [(first, first_path), (second, second_path)] = [paths[0].clone(), paths[1].clone()];
    let (one, other) = (fs::read(&first_path).unwrap(), fs::read(&second_path).unwrap());
    fs::write(&first_path, &other).unwrap();
    fs::write(&second_path, &one).unwrap();
    for id in [first, second] {
        assert!(matches!(root.manifest(id).await, Err(Error::Damaged { .. })));
    }
    // An object of another tenant, at the path that it would have there, and a plain object at the right path.
    let theirs = acme.put_manifest(small("first")).await.unwrap().value;
    let key = key::manifest(first, theirs.version);
    let ours = folder.path().join(ring.path(Realm::Sealed, key.path()).as_ref());
    let their_ring = acme.objects.ring().await.unwrap();
    let from = folder.path().join("tenants/acme").join(their_ring.path(Realm::Sealed, key.path()).as_ref());
    fs::copy(from, &ours).unwrap();
    assert!(matches!(root.objects.get(&key).await, Err(Error::Damaged { .. })));
    fs::write(&ours, crate::object::envelope::seal(&key, b"forged")).unwrap();
    assert!(matches!(root.objects.get(&key).await, Err(Error::Damaged { .. })));
}

#[tokio::test]
async fn an_encrypted_cloud_lists_in_the_order_of_ids() {
    let memory = Arc::new(object_store::memory::InMemory::new());
    let masters = crate::encryption::master::MasterKeys::open(&[master(1)], &[], Duration::ZERO).unwrap();
    let store = Store::new(crate::object::Objects::in_memory(Arc::clone(&memory), masters));
    let content = Content::write(&store).await;
    content.check(&store).await;
    assert_eq!(store.newest_versions(DELETED, crate::document_list::IdRange::all()).await.unwrap().len(), 1);
    assert_eq!(store.rotate_keys().await.unwrap().data_key, 2);
    let progress = encrypt(&store, EncryptMode::Outdated).await;
    assert!(progress.encrypted.objects > 15 && progress.damaged.is_empty(), "{progress:?}");
    content.check(&store).await;
    assert!(store.shred().await.unwrap().objects > 15);
}
