//! Listings that read little more than they return: of some of a folder's subfolders, or of the versions of one object.

use std::ops::RangeInclusive;

use async_stream::try_stream;
use futures::{Stream, TryStreamExt, pin_mut};
use object_store::path::Path;

use crate::Error;
use crate::object::Objects;
use crate::object::key::{KeyPrefix, ObjectKey};

impl Objects {
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
            if let Some(root) = self.folder() {
                for subfolder in range.map(subfolder) {
                    // The first subfolder is listed even if it does not exist, so that an unavailable store is noticed.
                    if subfolder == first || root.join(subfolder.as_ref()).is_dir() {
                        let objects = self.list(&subfolder, &subfolder);
                        let keys = objects.map_ok(|object| ObjectKey::from_path(object.location));
                        let mut keys: Vec<_> = keys.try_collect().await?;
                        keys.sort_unstable();
                        yield keys;
                    }
                }
                return;
            }
            // A cloud lists objects in the order of their keys.
            let objects = self.list(&folder, &first);
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

    /// Returns the keys of the versions of an object in a local folder, lowest version first. Reads only the names of
    /// files, whereas a listing also reads the metadata of each file. Returns nothing for a cloud, or if the folder
    /// cannot be read.
    pub(super) async fn local_versions(&self, prefix: &KeyPrefix) -> Vec<ObjectKey> {
        let (Some(root), Some((folder, _))) = (self.folder(), prefix.path().as_ref().rsplit_once('/')) else {
            return Vec::new();
        };
        let (path, folder) = (root.join(folder), folder.to_owned());
        let names = tokio::task::spawn_blocking(move || -> std::io::Result<Vec<_>> {
            std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
        });
        let names = names.await.ok().and_then(Result::ok).unwrap_or_default();
        let paths = names.iter().filter_map(|name| Path::parse(format!("{folder}/{}", name.to_str()?)).ok());
        let mut keys = Vec::from_iter(paths.map(ObjectKey::from_path).filter(|key| key.split_version().0 == *prefix));
        keys.sort_by_key(|key| key.split_version().1);
        keys
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use c3_types::DocumentId;
    use object_store::memory::InMemory;

    use super::*;
    use crate::object::Space;
    use crate::object::key::{self, DOCUMENTS};
    use crate::object::version::Version;

    #[tokio::test]
    async fn subfolders_of_a_folder_are_listed_in_order_from_the_middle() {
        let folder = tempfile::tempdir().unwrap();
        check(Objects::open(&folder.path().to_str().unwrap().into()).await.unwrap()).await;
    }

    #[tokio::test]
    async fn subfolders_of_a_cloud_are_listed_in_order_from_the_middle() {
        check(Objects { store: Arc::new(InMemory::new()), folder: None, foreign_warned: AtomicU64::new(0) }).await;
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
