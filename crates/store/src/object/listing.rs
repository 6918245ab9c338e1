//! Listings. They return keys, and skip foreign entries.
//!
//! An object may move from the plain to the sealed realm at any time, so the plain realm is always listed first: an
//! object that is not found there any more is found in the sealed one.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use async_stream::try_stream;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt, future, pin_mut};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use crate::Error;
use crate::availability::Unavailable;
use crate::encryption::ring::Ring;
use crate::object::folder::Folder;
use crate::object::key::{KeyPrefix, ObjectKey};
use crate::object::layout::PathKind;
use crate::object::realm::Realm;
use crate::object::version::Version;
use crate::object::walk::Entry;
use crate::object::{Objects, blocking};

/// Number of objects that are listed from a local folder at once, and about the number that a cloud lists at once.
const LISTED_AT_ONCE: usize = 1000;
/// Number of subfolders of an encrypted store in a cloud that are listed concurrently.
const SUBFOLDERS_AT_ONCE: usize = 16;

impl Objects {
    /// Lists the objects in a folder and its subfolders, in no guaranteed order.
    pub(crate) fn list(&self, folder: &Path) -> BoxStream<'_, Result<ObjectMeta, Error>> {
        let folder = folder.clone();
        let objects = try_stream! {
            let ring = self.ring().await?;
            let mut plain = HashSet::new();
            for realm in ring.realms() {
                let objects = self.list_realm(&ring, realm, &folder, None);
                pin_mut!(objects);
                while let Some(object) = objects.try_next().await? {
                    if ring.is_mixed() {
                        let hash = blake3::hash(object.location.as_ref().as_bytes());
                        let is_new = match realm {
                            Realm::Plain => plain.insert(hash),
                            Realm::Sealed => !plain.contains(&hash),
                        };
                        if !is_new {
                            continue;
                        }
                    }
                    yield object;
                }
            }
        };
        objects.boxed()
    }

    /// Lists the objects in a folder of a realm whose paths follow `offset`, a path in the store. The folder and the
    /// locations of the objects are keys. A local folder ignores `offset`.
    pub(crate) fn list_realm(
        &self,
        ring: &Arc<Ring>,
        realm: Realm,
        folder: &Path,
        offset: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        let path = ring.path(realm, folder);
        match &self.folder {
            Some(local) => list_folder(Arc::clone(local), &path, realm, Arc::clone(ring)).boxed(),
            None => {
                let all = match offset {
                    Some(offset) => self.store.list_with_offset(Some(&path), offset),
                    None => self.store.list(Some(&path)),
                };
                let all = all.map_err(|error| match error {
                    // An empty folder of a bucket is no error, so the bucket itself does not exist.
                    object_store::Error::NotFound { .. } => {
                        Error::unavailable(Unavailable::Vanished, error.to_string())
                    }
                    error => error.into(),
                });
                let ring = Arc::clone(ring);
                all.try_filter_map(move |object| {
                    let key = match ring.locate(&object.location) {
                        (PathKind::Object, of, key) if of == realm => key,
                        _ => None,
                    };
                    future::ready(Ok(key.map(|location| ObjectMeta { location, ..object })))
                })
                .boxed()
            }
        }
    }

    /// Returns the keys of all existing versions with this prefix, lowest version first.
    pub(crate) async fn versions(&self, prefix: &KeyPrefix) -> Result<Vec<ObjectKey>, Error> {
        let ring = self.ring().await?;
        let mut keys = Vec::new();
        for realm in ring.realms() {
            keys.extend(self.versions_in(&ring, realm, prefix).await?);
        }
        keys.sort_by_key(|key| key.split_version().1);
        keys.dedup();
        Ok(keys)
    }

    async fn versions_in(&self, ring: &Arc<Ring>, realm: Realm, prefix: &KeyPrefix) -> Result<Vec<ObjectKey>, Error> {
        let stem = ring.path(realm, prefix.at(Version::LAST).path());
        let stem = stem.as_ref().rsplit_once('.').map_or(stem.as_ref(), |(stem, _)| stem);
        let found = self.local_versions(stem, prefix).await;
        if !found.is_empty() {
            self.in_folder(Folder::check).await?;
            return Ok(found);
        }
        let key = prefix.path().as_ref();
        let folder = Path::parse(key.rsplit_once('/').map_or("", |(folder, _)| folder));
        let folder = folder.map_err(object_store::Error::from)?;
        // A listing excludes the offset itself, so the offset is the stem without its last character. If that leaves a
        // lone dot, which is no valid path, the whole folder is listed.
        let offset = Path::parse(&stem[..stem.len() - 1]).ok();
        let objects = self.list_realm(ring, realm, &folder, offset.as_ref());
        pin_mut!(objects);
        let mut keys = Vec::new();
        while let Some(object) = objects.try_next().await? {
            let is_past = self.folder.is_none() && {
                let path = ring.path(realm, &object.location);
                !path.as_ref().starts_with(stem) && path.as_ref() > stem
            };
            if is_past {
                break;
            }
            let key = ObjectKey::from_path(object.location);
            if key.split_version().0 == *prefix {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Returns the keys of the versions of an object in a local folder. `stem` is the path of the object without its
    /// version. Reads only the names of files, whereas a listing also reads the metadata of each file. Returns nothing
    /// for a cloud, or if the folder cannot be read.
    async fn local_versions(&self, stem: &str, prefix: &KeyPrefix) -> Vec<ObjectKey> {
        let (Some(root), Some((folder, stem))) = (self.folder(), stem.rsplit_once('/')) else {
            return Vec::new();
        };
        let (path, stem) = (root.join(folder), stem.to_owned());
        let versions = tokio::task::spawn_blocking(move || -> std::io::Result<Vec<_>> {
            let names = std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name()));
            names.filter_map(|name| name.map(|name| version_of(&stem, name.to_str()?)).transpose()).collect()
        });
        let versions = versions.await.ok().and_then(Result::ok).unwrap_or_default();
        // A prefix that ends like a version is never a key itself.
        let keys = versions.into_iter().map(|version| prefix.at(version));
        keys.filter(|key| key.split_version().0 == *prefix).collect()
    }

    /// Lists the objects in a range of a folder's fan-out subfolders, which are named `00` to `ff`. Yields the sorted
    /// keys of one subfolder at a time, in the order of subfolders. Lists lazily, as the stream is polled.
    pub(crate) fn subfolders(
        &self,
        folder: Path,
        range: RangeInclusive<u8>,
    ) -> impl Stream<Item = Result<Vec<ObjectKey>, Error>> + Send + '_ {
        let subfolder = {
            let folder = folder.clone();
            move |number: u8| folder.clone().join(format!("{number:02x}"))
        };
        let (first, last) = (subfolder(*range.start()), subfolder(*range.end()));
        try_stream! {
            let ring = self.ring().await?;
            let few = match self.folder.is_none() && ring.sealed.is_some() {
                true => self.few_keys(&folder).await?,
                false => None,
            };
            if let Some(keys) = few {
                let wanted = keys.iter().filter(|key| (first.as_ref()..=last.as_ref()).contains(&key.folder()));
                for keys in Vec::from_iter(wanted).chunk_by(|a, b| a.folder() == b.folder()) {
                    yield keys.iter().copied().cloned().collect();
                }
                return;
            }
            if self.folder.is_some() || ring.sealed.is_some() {
                // The first subfolder is listed even if it does not exist, so that an unavailable store is noticed.
                let exists = |path: &Path| *path == first || self.subfolder_exists(&ring, path);
                let subfolders = stream::iter(range.map(subfolder).filter(exists));
                let at_once = if self.folder.is_some() { 1 } else { SUBFOLDERS_AT_ONCE };
                let mut listed = subfolders.map(|path| self.sorted_keys(path)).buffered(at_once);
                while let Some(keys) = listed.try_next().await? {
                    yield keys;
                }
                return;
            }
            // A cloud lists plain objects in the order of their keys.
            let objects = self.list_realm(&ring, Realm::Plain, &folder, Some(&first));
            pin_mut!(objects);
            let mut keys: Vec<ObjectKey> = Vec::new();
            while let Some(object) = objects.try_next().await? {
                let key = ObjectKey::from_path(object.location);
                if keys.last().is_some_and(|previous| previous.folder() != key.folder()) {
                    yield std::mem::take(&mut keys);
                }
                if key.folder() > last.as_ref() {
                    break;
                }
                keys.push(key);
            }
            yield keys;
        }
    }

    /// Returns the sorted keys of the objects in a folder; `None` if there are more than a cloud lists in one request.
    async fn few_keys(&self, folder: &Path) -> Result<Option<Vec<ObjectKey>>, Error> {
        let objects: Vec<_> = self.list(folder).take(LISTED_AT_ONCE).try_collect().await?;
        let mut keys = Vec::from_iter(objects.into_iter().map(|object| ObjectKey::from_path(object.location)));
        keys.sort_unstable();
        Ok((keys.len() < LISTED_AT_ONCE).then_some(keys))
    }

    /// Returns whether a subfolder may contain objects. Always true for a cloud.
    fn subfolder_exists(&self, ring: &Ring, path: &Path) -> bool {
        let is_dir = |realm| self.folder().is_none_or(|root| root.join(ring.path(realm, path).as_ref()).is_dir());
        ring.realms().any(is_dir)
    }

    async fn sorted_keys(&self, folder: Path) -> Result<Vec<ObjectKey>, Error> {
        let objects = self.list(&folder);
        let mut keys: Vec<_> = objects.map_ok(|object| ObjectKey::from_path(object.location)).try_collect().await?;
        keys.sort_unstable();
        Ok(keys)
    }
}

/// Returns the version in a file name that consists of this stem and, after a dot, a version, if any.
fn version_of(stem: &str, name: &str) -> Option<Version> {
    match name.strip_prefix(stem)? {
        "" => Some(Version::NONE),
        rest => rest.strip_prefix('.')?.parse().ok(),
    }
}

/// Lists the objects in a local folder, many at a time.
fn list_folder(
    local: Arc<Folder>,
    path: &Path,
    realm: Realm,
    ring: Arc<Ring>,
) -> impl Stream<Item = Result<ObjectMeta, Error>> + Send + use<> {
    let walk = local.walk(path, &ring);
    let chunks = stream::try_unfold(Some(walk), move |walk| {
        let local = Arc::clone(&local);
        async move {
            let Some(mut walk) = walk else { return Ok(None) };
            let next = move || {
                let objects = walk.by_ref().filter_map(|entry| match entry {
                    Ok(Entry::Object(of, object)) => (of == realm).then_some(Ok(object)),
                    Ok(Entry::Temporary(_) | Entry::Foreign) => None,
                    Err(error) => Some(Err(Error::from_io(error))),
                });
                let objects = objects.take(LISTED_AT_ONCE).collect::<Result<Vec<_>, Error>>()?;
                let is_last = objects.len() < LISTED_AT_ONCE;
                if is_last {
                    // If the store has vanished, its objects are not missing: the listing fails instead.
                    local.check()?;
                }
                Ok::<_, Error>((objects, (!is_last).then_some(walk)))
            };
            let (objects, rest) = blocking(next).await?;
            Ok::<_, Error>(Some((stream::iter(objects.into_iter().map(Ok)), rest)))
        }
    });
    chunks.try_flatten()
}

#[cfg(test)]
mod tests {
    use c3_types::DocumentId;
    use object_store::memory::InMemory;

    use super::*;
    use crate::encryption::master::MasterKeys;
    use crate::encryption::secret::Secret;
    use crate::object::Space;
    use crate::object::key::{self, DOCUMENTS};

    #[tokio::test]
    async fn subfolders_of_a_folder_are_listed_in_order_from_the_middle() {
        let folder = tempfile::tempdir().unwrap();
        check(Objects::open(&folder.path().to_str().unwrap().into()).await.unwrap()).await;
    }

    #[tokio::test]
    async fn subfolders_of_a_cloud_are_listed_in_order_from_the_middle() {
        check(Objects::in_memory(Arc::new(InMemory::new()), MasterKeys::default())).await;
        let masters = MasterKeys::of_secrets([Secret::random()].into_iter());
        check(Objects::in_memory(Arc::new(InMemory::new()), masters)).await;
    }

    async fn check(objects: Objects) {
        let mut ids = Vec::from_iter((0..60u8).map(|number| DocumentId::of(&[number])));
        for id in &ids {
            objects.put(&key::manifest(*id, Version::NONE), b"", Space::Free).await.unwrap();
        }
        ids.sort_unstable();
        for (first, last) in [(0, 255), (ids[20].as_bytes()[0], ids[40].as_bytes()[0])] {
            let listed: Vec<_> = objects.subfolders(Path::from(DOCUMENTS), first..=last).try_collect().await.unwrap();
            assert!(listed.iter().all(|keys| keys.iter().all(|key| key.folder() == keys[0].folder())));
            let listed = listed.concat().into_iter().filter_map(|key| key::parse_document(key.path()));
            let expected = ids.iter().filter(|id| (first..=last).contains(&id.as_bytes()[0]));
            assert!(listed.map(|(id, _)| id).eq(expected.copied()));
        }
    }
}
