//! Repairs, replacements and measurements of objects, and upkeep of local folders.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};

use crate::Error;
use crate::object::envelope::seal;
use crate::object::folder::Folder;
use crate::object::key::ObjectKey;
use crate::object::realm::Realm;
use crate::object::{Objects, Survey};

impl Objects {
    /// Overwrites a damaged object. `payload` must be the one with which the object was created.
    pub(crate) async fn restore(&self, key: &ObjectKey, payload: &[u8]) -> Result<(), Error> {
        self.in_folder(Folder::check).await?;
        let ring = self.ring().await?;
        let object = ring.seal(seal(key, payload));
        self.store.put(&ring.path(ring.target(), key.path()), object.into()).await?;
        if ring.is_mixed() {
            self.delete_in(&ring, Realm::Plain, key).await?;
        }
        Ok(())
    }

    /// Replaces the stored bytes of an object, whose content stays the same. Changes nothing if the object was deleted,
    /// or replaced by another program. `version` is that of the bytes to replace.
    pub(crate) async fn replace(&self, path: &Path, object: Bytes, version: UpdateVersion) -> Result<(), Error> {
        if self.folder.is_some() {
            let path = path.clone();
            return self.in_folder(move |folder| folder.replace(&path, &object).map_err(Error::from_io)).await;
        }
        match self.store.put_opts(path, object.into(), PutMode::Update(version).into()).await {
            Ok(_) | Err(object_store::Error::NotFound { .. } | object_store::Error::Precondition { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the empty folders in a folder at a path of a local folder: their names may be those of plain objects.
    pub(crate) async fn remove_empty(&self, path: &'static str) -> Result<(), Error> {
        self.in_folder(move |folder| folder.remove_empty(&Path::from(path)).map_err(Error::from_io)).await
    }

    /// Fills the reserve of a local folder again if there is enough space.
    pub(crate) async fn refill_reserve(&self) -> Result<(), Error> {
        self.in_folder(|folder| folder.check().map(|()| folder.try_fill_reserve())).await
    }

    /// Removes old temporary files, which killed gateways leave in a local folder. Returns their number and bytes.
    pub(crate) async fn remove_stale(&self, grace: Duration) -> Result<(u64, u64), Error> {
        let ring = self.ring().await?;
        self.in_folder(move |folder| {
            folder.check()?;
            folder.remove_stale(grace, &ring).map_err(Error::from_io)
        })
        .await
    }

    /// Measures all objects, and counts the foreign entries. Logs a warning if their number has changed since the last
    /// call and is not zero. Lists the whole store.
    pub(crate) async fn survey(&self) -> Result<Survey, Error> {
        let ring = self.ring().await?;
        let survey = match &self.folder {
            Some(_) => {
                let survey = move |folder: &Folder| {
                    let survey = folder.survey(&ring).map_err(Error::from_io)?;
                    folder.check().map(|()| survey)
                };
                self.in_folder(survey).await?
            }
            None => {
                let add = async |survey: Survey, object: ObjectMeta| Ok(survey.with(&object, &ring));
                self.store.list(None).map_err(Error::from).try_fold(Survey::default(), add).await?
            }
        };
        let count = survey.foreign;
        if self.foreign_warned.swap(count, Ordering::Relaxed) != count && count > 0 {
            tracing::warn!(count, "skipped entries that are not the store's: give the store a folder of its own");
        }
        Ok(survey)
    }
}
