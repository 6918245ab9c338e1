//! Sealed objects: a header with a BLAKE3 checksum, then the payload.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `C3 store` |
//! | 1 | what the object is |
//! | 1 | version of its format |
//! | 32 | BLAKE3 of the 10 bytes above, the object's name, a zero byte, and the payload |
//! | rest | the payload |
//!
//! A bit that flips anywhere, a file cut short or put under another name is found before its payload is read.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::backend::{Backend, BackendSettings};
use super::layout::{Name, ObjectKind};
use crate::error::Error;

const MAGIC: &[u8; 8] = b"C3 store";
/// Format of the payloads in [`super::manifest`] and [`super::shard`].
const VERSION: u8 = 1;
const CHECKSUM_AT: usize = MAGIC.len() + 2;
const PAYLOAD_AT: usize = CHECKSUM_AT + 32;

/// Why an object cannot be had or kept.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It is not there.
    #[error("{object} is missing")]
    Missing { object: String },
    /// It is not what was written.
    #[error("{object} is damaged: {problem}")]
    Damaged { object: String, problem: String },
    /// The store itself fails.
    #[error("store: {0}")]
    Io(Arc<object_store::Error>),
}

impl StoreError {
    /// An object that does not hold what it must.
    pub(crate) fn damaged(name: &Name, problem: impl Into<String>) -> Self {
        Self::Damaged { object: name.to_string(), problem: problem.into() }
    }

    fn of(name: &Name, error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing { object: name.to_string() },
            error => Self::from(error),
        }
    }
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// What happens to an object that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It stays, and the write says so.
    Keep,
    /// It is replaced at once as a whole.
    Replace,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is durable; the size of the object.
    Durably { bytes: u64 },
    /// There was one already, and it was to stay.
    Kept,
}

/// A store of sealed objects.
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Set where the store is a local folder.
    folder: Option<PathBuf>,
}

impl Objects {
    /// Opens the backend.
    pub(crate) async fn open(settings: &BackendSettings) -> Result<Self, Error> {
        let Backend { store, folder } = Backend::open(settings).await?;
        Ok(Self { store, folder })
    }

    /// Reads an object's payload; the second number is the size of the object.
    pub(crate) async fn get(&self, kind: ObjectKind, name: &Name) -> Result<(Bytes, u64), StoreError> {
        let found = self.store.get(name.path()).await.map_err(|error| StoreError::of(name, error))?;
        let object = found.bytes().await.map_err(|error| StoreError::of(name, error))?;
        let bytes = object.len() as u64;
        let payload = unseal(kind, name, object).map_err(|problem| StoreError::damaged(name, problem))?;
        Ok((payload, bytes))
    }

    /// Writes an object. It is durable when this returns.
    pub(crate) async fn put(
        &self,
        kind: ObjectKind,
        name: &Name,
        payload: &[u8],
        existing: Existing,
    ) -> Result<Written, StoreError> {
        let object = seal(kind, name, payload);
        let bytes = object.len() as u64;
        let mode = match existing {
            Existing::Keep => PutMode::Create,
            Existing::Replace => PutMode::Overwrite,
        };
        match self.store.put_opts(name.path(), object.into(), PutOptions::from(mode)).await {
            Ok(_) => Ok(Written::Durably { bytes }),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Written::Kept),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an object, durably. Errors where there is none.
    pub(crate) async fn delete(&self, name: &Name) -> Result<(), StoreError> {
        // Some stores delete what is not there without a word.
        self.store.head(name.path()).await.map_err(|error| StoreError::of(name, error))?;
        self.store.delete(name.path()).await.map_err(|error| StoreError::of(name, error))?;
        match &self.folder {
            Some(folder) => sync_parent(folder.join(name.path().as_ref())).await,
            None => Ok(()),
        }
    }

    /// What lies below a folder and, by name, after `offset`, in no order.
    pub(crate) fn list(
        &self,
        folder: &Path,
        offset: &Path,
    ) -> impl Stream<Item = Result<ObjectMeta, StoreError>> + Send + 'static {
        self.store.list_with_offset(Some(folder), offset).map_err(StoreError::from)
    }
}

/// `object_store` flushes the folder after a write, but not after a delete.
#[cfg(unix)]
async fn sync_parent(path: PathBuf) -> Result<(), StoreError> {
    let synced = tokio::task::spawn_blocking(move || {
        let parent = path.parent().expect("an object lies in a folder");
        std::fs::File::open(parent)?.sync_all()
    });
    let synced = synced.await.map_err(std::io::Error::from).flatten();
    synced.map_err(|source| object_store::Error::Generic { store: "folder", source: source.into() }.into())
}

#[cfg(not(unix))]
async fn sync_parent(_: PathBuf) -> Result<(), StoreError> {
    Ok(())
}

fn seal(kind: ObjectKind, name: &Name, payload: &[u8]) -> Bytes {
    let mut object = Vec::with_capacity(PAYLOAD_AT + payload.len());
    object.extend_from_slice(MAGIC);
    object.extend_from_slice(&[kind.tag(), VERSION]);
    let checksum = checksum(&object, name, payload);
    object.extend_from_slice(checksum.as_bytes());
    object.extend_from_slice(payload);
    object.into()
}

fn unseal(kind: ObjectKind, name: &Name, object: Bytes) -> Result<Bytes, String> {
    if object.len() < PAYLOAD_AT {
        return Err("it is cut short".to_owned());
    }
    let (header, payload) = (&object[..CHECKSUM_AT], object.slice(PAYLOAD_AT..));
    if checksum(header, name, &payload).as_bytes() != &object[CHECKSUM_AT..PAYLOAD_AT] {
        return Err("its checksum does not hold".to_owned());
    }
    // From here on it is as it was written, but by whom?
    match header {
        [magic @ .., tag, version] if magic == MAGIC && *tag == kind.tag() => match *version {
            VERSION => Ok(payload),
            other => Err(format!("it has format {other}, this program reads {VERSION}")),
        },
        _ => Err("it is another kind of object".to_owned()),
    }
}

fn checksum(header: &[u8], name: &Name, payload: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header).update(name.to_string().as_bytes()).update(&[0]).update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use c3_proto::DocumentId;
    use proptest::prelude::*;

    use super::*;
    use crate::store::layout;

    fn name(text: &[u8]) -> Name {
        layout::manifest(DocumentId::of(text))
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_unsealed(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let object = seal(ObjectKind::Latents, &name(b"a"), &payload);
            prop_assert_eq!(unseal(ObjectKind::Latents, &name(b"a"), object.clone()), Ok(payload.into()));
            prop_assert!(unseal(ObjectKind::Corrections, &name(b"a"), object.clone()).is_err());
            prop_assert!(unseal(ObjectKind::Latents, &name(b"b"), object).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        let object = seal(ObjectKind::Manifest, &name(b"a"), b"what a document is made of");
        for bit in 0..8 * object.len() {
            let mut flipped = object.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(ObjectKind::Manifest, &name(b"a"), flipped.into()).is_err(), "bit {bit}");
        }
        for length in 0..object.len() {
            assert!(unseal(ObjectKind::Manifest, &name(b"a"), object.slice(..length)).is_err(), "{length}");
        }
    }

    #[tokio::test]
    async fn objects_are_kept_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(&folder.path().to_str().unwrap().into()).await.unwrap();
        let (kind, name) = (ObjectKind::Manifest, name(b"a"));
        assert!(matches!(objects.get(kind, &name).await, Err(StoreError::Missing { .. })));
        assert!(matches!(objects.delete(&name).await, Err(StoreError::Missing { .. })));

        let first = objects.put(kind, &name, b"first", Existing::Keep).await.unwrap();
        assert_eq!(first, Written::Durably { bytes: PAYLOAD_AT as u64 + 5 });
        assert_eq!(objects.put(kind, &name, b"second", Existing::Keep).await.unwrap(), Written::Kept);
        assert_eq!(objects.get(kind, &name).await.unwrap().0, "first");
        objects.put(kind, &name, b"third", Existing::Replace).await.unwrap();
        assert_eq!(objects.get(kind, &name).await.unwrap().0, "third");

        objects.delete(&name).await.unwrap();
        assert!(matches!(objects.get(kind, &name).await, Err(StoreError::Missing { .. })));
    }
}
