//! Tests of key rings, and rings for other tests.

use std::iter;

use object_store::memory::InMemory;

use super::*;
use crate::object::key::FOLDERS;

/// Returns the ring of a store without encryption.
pub(crate) fn plain() -> Ring {
    Ring { sealed: None, has_plain: true }
}

/// Returns the ring of an encrypted store.
pub(crate) fn sealed() -> Ring {
    let names = Arc::new(NameKey::new(&Secret::random(), &FOLDERS));
    let keys = BTreeMap::from([(FIRST, Arc::new(DataKey::new(FIRST, &Secret::random())))]);
    Ring { sealed: Some(Sealed { names, keys }), has_plain: false }
}

fn masters(bytes: &[u8]) -> MasterKeys {
    MasterKeys::of_secrets(bytes.iter().map(|&byte| Secret::from_bytes(&[byte; 32]).unwrap()))
}

fn ring(store: &Arc<InMemory>, place: &str, masters: MasterKeys) -> KeyRing {
    KeyRing::new(Arc::clone(store) as Arc<dyn ObjectStore>, &Path::from(place), masters, &FOLDERS)
}

async fn load(ring: &KeyRing) -> Result<Arc<Ring>, KeyError> {
    ring.load(Duration::ZERO).await
}

#[tokio::test]
async fn keys_are_created_once_and_refused_to_others() {
    let store = Arc::new(InMemory::new());
    let [one, two] = [(); 2].map(|()| ring(&store, "", masters(&[1])));
    let (first, second) = futures::future::try_join(load(&one), load(&two)).await.unwrap();
    assert!(!first.has_plain && !second.has_plain);
    let (first, second) = (first.sealed.clone().unwrap(), second.sealed.clone().unwrap());
    assert_eq!(second.open(&first.seal(b"text")).unwrap(), "text");
    assert_eq!(first.names.seal_part("a", b"b"), second.names.seal_part("a", b"b"));

    let refusals = [
        (ring(&store, "", MasterKeys::default()), "give its master key with --master-key"),
        (ring(&store, "", masters(&[2])), "local:"),
        (ring(&store, "tenants/a", masters(&[1])), "tenants/a/meta/keys/names is damaged"),
    ];
    for (ring, expected) in refusals {
        let error = load(&ring).await.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn a_new_key_is_used_and_found_by_other_rings() {
    let store = Arc::new(InMemory::new());
    let [one, two] = [(); 2].map(|()| ring(&store, "", masters(&[1])));
    let old = load(&one).await.unwrap().sealed.clone().unwrap().seal(b"old");
    load(&two).await.unwrap();
    assert_eq!(one.add().await.unwrap(), 2);
    let new = load(&one).await.unwrap().sealed.clone().unwrap().seal(b"new");
    assert_eq!((number_of(&old), number_of(&new)), (Some(1), Some(2)));
    // The other ring does not know the key yet.
    assert_eq!(two.fresh().unwrap().sealed.as_ref().unwrap().open(&new), None);
    tokio::time::sleep(UNKNOWN_PAUSE).await;
    let found = two.load_key(2).await.unwrap();
    let found = found.sealed.as_ref().unwrap();
    assert_eq!((found.open(&new).unwrap(), found.open(&old).unwrap()), ("new".into(), "old".into()));
    assert!(matches!(two.load_key(3).await, Err(KeyError::Missing(3))));
}

#[tokio::test]
async fn rewrapped_keys_are_opened_by_the_new_master_key_only() {
    let store = Arc::new(InMemory::new());
    let old = load(&ring(&store, "", masters(&[1]))).await.unwrap().sealed.clone().unwrap().seal(b"text");
    let both = ring(&store, "", masters(&[2, 1]));
    load(&both).await.unwrap();
    for name in [NAMES, "1"] {
        let (secret, _) = both.read(name).await.unwrap();
        both.rewrap(name, &secret).await.unwrap();
    }
    let new = load(&ring(&store, "", masters(&[2]))).await.unwrap();
    assert_eq!(new.sealed.as_ref().unwrap().open(&old).unwrap(), "text");
    let error = load(&ring(&store, "", masters(&[1]))).await.unwrap_err();
    assert!(matches!(error, KeyError::WrongMasterKey { .. }), "{error}");
}

#[tokio::test]
async fn destroyed_keys_are_forgotten_and_lost_ones_are_not_replaced() {
    let store = Arc::new(InMemory::new());
    let (open, lost) = (ring(&store, "", masters(&[1])), ring(&store, "tenants/a", masters(&[1])));
    load(&open).await.unwrap();
    for name in [NAMES, "1"] {
        open.remove(name).await.unwrap();
    }
    // Without the mark, the keys were lost by accident, and are kept as long as possible.
    load(&open).await.unwrap();
    store.put(&Path::from("sealed/documents/00/00"), Bytes::new().into()).await.unwrap();
    assert!(matches!(load(&lost).await, Err(KeyError::Damaged(_))));
    open.mark(DESTROYED).await.unwrap();
    for ring in iter::repeat_n(&open, 2).chain([&lost]) {
        assert!(matches!(load(ring).await, Err(KeyError::Destroyed)));
    }
    assert!(open.is_destroyed() && open.fresh().is_none());
}
