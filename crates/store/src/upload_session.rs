//! Upload sessions: progress records of unfinished puts (writes of documents), so that an interrupted put can be
//! resumed.
//!
//! A record contains the options of a put, and a manifest of the shards that are already durable. Garbage collection
//! keeps these shards, so a put may take longer than the grace period. A newer record replaces older ones. A session is
//! deleted when its put ends, or by garbage collection after it expired.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use c3_types::{SweepSummary, UploadName};
use futures::TryStreamExt;
use object_store::path::Path;
use prost::Message;

use crate::manifest::Manifest;
use crate::object::Space;
use crate::object::key::{self, ObjectKey, UPLOADS};
use crate::object::version::{Version, now_unix_ms};
use crate::{Error, Store};

/// Time for which an interrupted put can be resumed, counted from its last record.
pub const UPLOAD_TTL: Duration = Duration::from_secs(24 * 3600);

/// Recorded progress of a put.
#[derive(Clone, Debug, PartialEq)]
pub struct UploadSession {
    /// Name that the caller or the gateway chose.
    pub name: UploadName,
    /// Options of the put, as encoded by the gateway. The options of a resumed put must not contradict them.
    pub options: Bytes,
    /// Manifest of the durable shards, from the first one on and without gaps. The expiry of this manifest is that of
    /// the session.
    pub manifest: Manifest,
}

#[derive(Clone, PartialEq, Message)]
struct UploadPayload {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    options: Bytes,
    /// Payload of the manifest.
    #[prost(bytes = "bytes", tag = "3")]
    manifest: Bytes,
}

impl UploadSession {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (name, options) = (self.name.to_string(), self.options.clone());
        UploadPayload { name, options, manifest: self.manifest.encode() }.encode_to_vec()
    }

    pub(crate) fn decode(key: &ObjectKey, payload: Bytes) -> Result<Self, Error> {
        let payload = UploadPayload::decode(payload);
        let payload = payload.map_err(|error| Error::damaged(key, error.to_string()))?;
        let read = || {
            let manifest = Manifest::decode(payload.manifest)?;
            Ok(Self { name: payload.name.parse()?, options: payload.options, manifest })
        };
        read().map_err(|invalid| Error::invalid(key, &invalid))
    }
}

impl Store {
    /// Returns the newest readable record of a session; `None` if there is none or the session has expired.
    pub async fn upload(&self, name: &UploadName) -> Result<Option<UploadSession>, Error> {
        let keys = self.objects.versions(&key::upload_prefix(name)).await?;
        for key in keys.iter().rev() {
            if let Some(session) = self.read_upload(key).await? {
                return Ok(Some(session).filter(|session| !session.manifest.is_expired(now_unix_ms())));
            }
        }
        Ok(None)
    }

    /// Returns the newest readable record of each session that has not expired, in the order of their names.
    pub async fn uploads(&self) -> Result<Vec<UploadSession>, Error> {
        let mut newest = BTreeMap::new();
        for key in self.upload_keys().await? {
            if let Some(session) = self.read_upload(&key).await? {
                newest.insert(session.name.clone(), session);
            }
        }
        let now = now_unix_ms();
        Ok(newest.into_values().filter(|session| !session.manifest.is_expired(now)).collect())
    }

    /// Writes a record and deletes older records of the same session.
    pub async fn put_upload(&self, session: &UploadSession) -> Result<(), Error> {
        let prefix = key::upload_prefix(&session.name);
        let older = self.objects.versions(&prefix).await?;
        let newest = older.last().map_or(Version::NONE, |key| key.split_version().1);
        let key = prefix.at(Version::after(newest));
        self.objects.put(&key, &session.encode(), Space::Free).await?;
        self.delete_all(&older).await
    }

    /// Deletes the session of a put that has ended.
    pub async fn end_upload(&self, name: &UploadName) -> Result<(), Error> {
        self.delete_all(&self.objects.versions(&key::upload_prefix(name)).await?).await
    }

    /// Deletes expired records and adds them to `summary`. Keeps damaged records.
    pub(crate) async fn remove_expired_uploads(&self, summary: &mut SweepSummary) -> Result<(), Error> {
        let now = now_unix_ms();
        for key in self.upload_keys().await? {
            if self.read_upload(&key).await?.is_some_and(|session| session.manifest.is_expired(now)) {
                self.remove(&key, summary).await?;
            }
        }
        Ok(())
    }

    async fn delete_all(&self, keys: &[ObjectKey]) -> Result<(), Error> {
        for key in keys {
            self.objects.delete(key).await?;
        }
        Ok(())
    }

    /// Returns the keys of the records of all sessions, oldest first.
    async fn upload_keys(&self) -> Result<Vec<ObjectKey>, Error> {
        let folder = Path::from(UPLOADS);
        let objects = self.objects.list(&folder);
        let mut keys: Vec<ObjectKey> =
            objects.map_ok(|object| ObjectKey::from_path(object.location)).try_collect().await?;
        keys.sort_by_key(|key| key.split_version().1);
        Ok(keys)
    }

    /// Reads a record; `None` if it is missing or damaged. Without its record, a put repeats work, but no document is
    /// lost.
    async fn read_upload(&self, key: &ObjectKey) -> Result<Option<UploadSession>, Error> {
        let read = match self.objects.get(key).await {
            Ok((payload, _)) => UploadSession::decode(key, payload),
            Err(error) => Err(error),
        };
        match read {
            Ok(session) => Ok(Some(session)),
            Err(Error::Missing { .. }) => Ok(None),
            Err(error @ Error::Damaged { .. }) => {
                tracing::warn!(%error, "ignored a damaged upload session");
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
        let manifest = Manifest { expires_unix_ms: Some(expires_unix_ms), ..manifest(&[vec![10]], true) };
        UploadSession { name: name.parse().unwrap(), options: "options".into(), manifest }
    }

    #[tokio::test]
    async fn the_newest_record_is_used_until_the_session_ends_or_expires() {
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
        let mut summary = SweepSummary::default();
        store.remove_expired_uploads(&mut summary).await.unwrap();
        assert_eq!(summary.removed, 1);
        store.end_upload(&later.name).await.unwrap();
        assert_eq!(store.uploads().await.unwrap(), [other]);
    }
}
