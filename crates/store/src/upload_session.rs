//! Records of puts that are under way, so that they can be taken up where they broke off.
//!
//! A record binds the options and names the shards that are durable, as a manifest would. What it names no sweep takes:
//! a put may so last longer than the grace. A newer record takes the place of an older one; it goes when the put has
//! ended, or with a sweep once it is past its time.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use c3_proto::{UploadName, WriteOptions, pb};
use futures::TryStreamExt;
use object_store::path::Path;
use prost::Message;

use super::layout::{self, Name, ObjectKind, UPLOADS};
use super::manifest::Manifest;
use super::objects::StoreError;
use super::stamp::{Stamp, now_unix_ms};
use super::sweep::Swept;
use super::{Store, damaged};

/// How long a put that broke off can be taken up, from its last record on.
pub(crate) const UPLOAD_TTL: Duration = Duration::from_secs(24 * 3600);

/// A put that is under way, as far as it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UploadRecord {
    pub(crate) name: UploadName,
    /// That the put is bound to.
    pub(crate) options: WriteOptions,
    /// The shards that are durable, from the first on, as the manifest of a document has them. Expires with the record.
    pub(crate) so_far: Manifest,
}

#[derive(Clone, PartialEq, Message)]
struct UploadPayload {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    options: Option<pb::WriteOptions>,
    /// The payload of a manifest.
    #[prost(bytes = "bytes", tag = "3")]
    so_far: Bytes,
}

impl UploadRecord {
    fn encode(&self) -> Vec<u8> {
        let options = Some(self.options.to_wire());
        UploadPayload { name: self.name.to_string(), options, so_far: self.so_far.encode() }.encode_to_vec()
    }

    fn decode(name: &Name, payload: Bytes) -> Result<Self, StoreError> {
        let payload = UploadPayload::decode(payload);
        let payload = payload.map_err(|error| StoreError::damaged(name, error.to_string()))?;
        let read = || {
            let options = WriteOptions::from_wire(payload.options.unwrap_or_default())?;
            Ok(Self { name: payload.name.parse()?, options, so_far: Manifest::decode(payload.so_far)? })
        };
        read().map_err(|invalid| damaged(name, &invalid))
    }
}

impl Store {
    /// The newest record of a put that can be taken up.
    pub(crate) async fn upload(&self, name: &UploadName) -> Result<Option<UploadRecord>, StoreError> {
        let generations = self.objects.generations(&layout::of_upload(name)).await?;
        for name in generations.iter().rev() {
            if let Some(record) = self.read_upload(name).await? {
                return Ok(Some(record).filter(|record| !record.so_far.is_expired(now_unix_ms())));
            }
        }
        Ok(None)
    }

    /// All puts that can be taken up, by name.
    pub(crate) async fn uploads(&self) -> Result<Vec<UploadRecord>, StoreError> {
        let mut newest = BTreeMap::new();
        for name in self.upload_objects().await? {
            if let Some(record) = self.read_upload(&name).await? {
                newest.insert(record.name.clone(), record);
            }
        }
        let now = now_unix_ms();
        Ok(newest.into_values().filter(|record| !record.so_far.is_expired(now)).collect())
    }

    /// Writes a record in the place of older ones.
    pub(crate) async fn put_upload(&self, record: &UploadRecord) -> Result<(), StoreError> {
        let family = layout::of_upload(&record.name);
        let older = self.objects.generations(&family).await?;
        let newest = older.last().map_or(Stamp::NONE, |name| name.family().1);
        let name = family.at(Stamp::after(newest));
        self.objects.put(ObjectKind::Upload, &name, &record.encode()).await?;
        self.forget(&older).await
    }

    /// Removes the records of a put that has ended.
    pub(crate) async fn end_upload(&self, name: &UploadName) -> Result<(), StoreError> {
        self.forget(&self.objects.generations(&layout::of_upload(name)).await?).await
    }

    /// Removes records past their time.
    pub(crate) async fn drop_uploads(&self, swept: &mut Swept) -> Result<(), StoreError> {
        let now = now_unix_ms();
        for name in self.upload_objects().await? {
            if self.read_upload(&name).await?.is_some_and(|record| record.so_far.is_expired(now)) {
                self.remove(&name, swept).await?;
            }
        }
        Ok(())
    }

    async fn forget(&self, names: &[Name]) -> Result<(), StoreError> {
        for name in names {
            self.objects.delete(name).await?;
        }
        Ok(())
    }

    /// All records, older ones of a put before newer ones.
    async fn upload_objects(&self) -> Result<Vec<Name>, StoreError> {
        let folder = Path::from(UPLOADS);
        let objects = self.objects.list(&folder, &folder);
        let mut names: Vec<Name> = objects.map_ok(|object| Name::at(object.location)).try_collect().await?;
        names.sort_by_key(|name| name.family().1);
        Ok(names)
    }

    /// A record; `None` where it is gone or damaged, which costs work that is done again, and no document.
    async fn read_upload(&self, name: &Name) -> Result<Option<UploadRecord>, StoreError> {
        let read = match self.objects.get(ObjectKind::Upload, name).await {
            Ok((payload, _)) => UploadRecord::decode(name, payload),
            Err(error) => Err(error),
        };
        match read {
            Ok(record) => Ok(Some(record)),
            Err(StoreError::Missing { .. }) => Ok(None),
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::warn!(%error, "the put cannot be taken up from it");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::manifest::tests::manifest;

    fn record(name: &str, expires_unix_ms: u64) -> UploadRecord {
        let so_far = Manifest { expires_unix_ms: Some(expires_unix_ms), ..manifest(&[vec![10]], true) };
        let options = WriteOptions { ratio: Some(20), ..WriteOptions::default() };
        UploadRecord { name: name.parse().unwrap(), options, so_far }
    }

    #[tokio::test]
    async fn the_newest_record_counts_until_it_ends_or_is_past_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).await.unwrap();
        let (first, later) = (record("upload", u64::MAX - 1), record("upload", u64::MAX));
        let (other, old) = (record("upload-2", u64::MAX), record("past", 1));
        for record in [&first, &later, &other, &old] {
            store.put_upload(record).await.unwrap();
        }
        assert_eq!(store.upload(&later.name).await.unwrap(), Some(later.clone()));
        assert_eq!(store.upload(&old.name).await.unwrap(), None);
        assert_eq!(store.uploads().await.unwrap(), [later.clone(), other.clone()]);
        let mut swept = Swept::default();
        store.drop_uploads(&mut swept).await.unwrap();
        assert_eq!(swept.removed, 1);
        store.end_upload(&later.name).await.unwrap();
        assert_eq!(store.uploads().await.unwrap(), [other]);
    }
}
