//! Records of puts that are under way, so that they can be taken up where they broke off.
//!
//! A record binds the options and names the shards that are durable, as a manifest would. What it names no sweep takes:
//! a put may so last longer than the grace. A newer record takes the place of an older one; it goes when the put has
//! ended, or with a sweep once it is past its time.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use c3_types::{UploadName, WriteOptions};
use futures::TryStreamExt;
use object_store::path::Path;
use prost::Message;

use crate::manifest::Manifest;
use crate::object::key::{self, ObjectKey, ObjectKind, UPLOADS};
use crate::object::version::{Version, now_unix_ms};
use crate::payload::WriteOptionsPayload;
use crate::{Error, Store};
use c3_types::SweepSummary;

/// How long a put that broke off can be taken up, from its last record on.
pub const UPLOAD_TTL: Duration = Duration::from_secs(24 * 3600);

/// A put that is under way, as far as it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct UploadSession {
    pub name: UploadName,
    /// That the put is bound to.
    pub options: WriteOptions,
    /// The shards that are durable, from the first on, as the manifest of a document has them. Expires with the record.
    pub so_far: Manifest,
}

#[derive(Clone, PartialEq, Message)]
struct UploadPayload {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    options: Option<WriteOptionsPayload>,
    /// The payload of a manifest.
    #[prost(bytes = "bytes", tag = "3")]
    so_far: Bytes,
}

impl UploadSession {
    fn encode(&self) -> Vec<u8> {
        let options = Some((&self.options).into());
        UploadPayload { name: self.name.to_string(), options, so_far: self.so_far.encode() }.encode_to_vec()
    }

    fn decode(name: &ObjectKey, payload: Bytes) -> Result<Self, Error> {
        let payload = UploadPayload::decode(payload);
        let payload = payload.map_err(|error| Error::damaged(name, error.to_string()))?;
        let read = || {
            let options = WriteOptions::try_from(payload.options.unwrap_or_default())?;
            Ok(Self { name: payload.name.parse()?, options, so_far: Manifest::decode(payload.so_far)? })
        };
        read().map_err(|invalid| Error::invalid(name, &invalid))
    }
}

impl Store {
    /// The newest record of a put that can be taken up.
    pub async fn upload(&self, name: &UploadName) -> Result<Option<UploadSession>, Error> {
        let generations = self.objects.generations(&key::of_upload(name)).await?;
        for name in generations.iter().rev() {
            if let Some(record) = self.read_upload(name).await? {
                return Ok(Some(record).filter(|record| !record.so_far.is_expired(now_unix_ms())));
            }
        }
        Ok(None)
    }

    /// All puts that can be taken up, by name.
    pub async fn uploads(&self) -> Result<Vec<UploadSession>, Error> {
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
    pub async fn put_upload(&self, record: &UploadSession) -> Result<(), Error> {
        let family = key::of_upload(&record.name);
        let older = self.objects.generations(&family).await?;
        let newest = older.last().map_or(Version::NONE, |name| name.split_version().1);
        let name = family.at(Version::after(newest));
        self.objects.put(ObjectKind::Upload, &name, &record.encode()).await?;
        self.forget(&older).await
    }

    /// Removes the records of a put that has ended.
    pub async fn end_upload(&self, name: &UploadName) -> Result<(), Error> {
        self.forget(&self.objects.generations(&key::of_upload(name)).await?).await
    }

    /// Removes records past their time.
    pub async fn drop_uploads(&self, swept: &mut SweepSummary) -> Result<(), Error> {
        let now = now_unix_ms();
        for name in self.upload_objects().await? {
            if self.read_upload(&name).await?.is_some_and(|record| record.so_far.is_expired(now)) {
                self.remove(&name, swept).await?;
            }
        }
        Ok(())
    }

    async fn forget(&self, names: &[ObjectKey]) -> Result<(), Error> {
        for name in names {
            self.objects.delete(name).await?;
        }
        Ok(())
    }

    /// All records, older ones of a put before newer ones.
    async fn upload_objects(&self) -> Result<Vec<ObjectKey>, Error> {
        let folder = Path::from(UPLOADS);
        let objects = self.objects.list(&folder, &folder);
        let mut names: Vec<ObjectKey> =
            objects.map_ok(|object| ObjectKey::at(object.location)).try_collect().await?;
        names.sort_by_key(|name| name.split_version().1);
        Ok(names)
    }

    /// A record; `None` where it is gone or damaged, which costs work that is done again, and no document.
    async fn read_upload(&self, name: &ObjectKey) -> Result<Option<UploadSession>, Error> {
        let read = match self.objects.get(ObjectKind::Upload, name).await {
            Ok((payload, _)) => UploadSession::decode(name, payload),
            Err(error) => Err(error),
        };
        match read {
            Ok(record) => Ok(Some(record)),
            Err(Error::Missing { .. }) => Ok(None),
            Err(error @ Error::Damaged { .. }) => {
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
    use crate::manifest::tests::manifest;

    fn record(name: &str, expires_unix_ms: u64) -> UploadSession {
        let so_far = Manifest { expires_unix_ms: Some(expires_unix_ms), ..manifest(&[vec![10]], true) };
        let options = WriteOptions { ratio: Some(20), ..WriteOptions::default() };
        UploadSession { name: name.parse().unwrap(), options, so_far }
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
        let mut swept = SweepSummary::default();
        store.drop_uploads(&mut swept).await.unwrap();
        assert_eq!(swept.removed, 1);
        store.end_upload(&later.name).await.unwrap();
        assert_eq!(store.uploads().await.unwrap(), [other]);
    }
}
