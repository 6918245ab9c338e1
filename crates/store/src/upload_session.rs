//! Upload sessions: progress records of unfinished puts, so that an interrupted put can be resumed.
//!
//! A record binds the options and lists the durable shards, as a manifest would. Garbage collection keeps these shards,
//! so a put may take longer than the grace period. A newer record replaces older ones. A session is deleted when its
//! put ends, or by garbage collection after it expired.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use c3_types::{SweepSummary, UploadName, WriteOptions};
use futures::TryStreamExt;
use object_store::path::Path;
use prost::Message;

use crate::manifest::Manifest;
use crate::object::key::{self, ObjectKey, UPLOADS};
use crate::object::version::{Version, now_unix_ms};
use crate::payload::WriteOptionsPayload;
use crate::{Error, Store};

/// Time for which an interrupted put can be resumed, counted from its last record.
pub const UPLOAD_TTL: Duration = Duration::from_secs(24 * 3600);

/// Recorded progress of a put.
#[derive(Clone, Debug, PartialEq)]
pub struct UploadSession {
    /// Name that the caller gave, or the gateway.
    pub name: UploadName,
    /// Options to which the put is bound.
    pub options: WriteOptions,
    /// Durable shards from the first on, as the manifest of a document. Expires with the session.
    pub manifest: Manifest,
}

#[derive(Clone, PartialEq, Message)]
struct UploadPayload {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    options: Option<WriteOptionsPayload>,
    /// Payload of a manifest.
    #[prost(bytes = "bytes", tag = "3")]
    manifest: Bytes,
}

impl UploadSession {
    fn encode(&self) -> Vec<u8> {
        let options = Some((&self.options).into());
        UploadPayload { name: self.name.to_string(), options, manifest: self.manifest.encode() }.encode_to_vec()
    }

    fn decode(key: &ObjectKey, payload: Bytes) -> Result<Self, Error> {
        let payload = UploadPayload::decode(payload);
        let payload = payload.map_err(|error| Error::damaged(key, error.to_string()))?;
        let read = || {
            let options = WriteOptions::try_from(payload.options.unwrap_or_default())?;
            Ok(Self { name: payload.name.parse()?, options, manifest: Manifest::decode(payload.manifest)? })
        };
        read().map_err(|invalid| Error::invalid(key, &invalid))
    }
}

impl Store {
    /// Returns the newest readable record of a put; `None` if there is none, or the session has expired.
    pub async fn upload(&self, name: &UploadName) -> Result<Option<UploadSession>, Error> {
        let keys = self.objects.versions(&key::upload_prefix(name)).await?;
        for key in keys.iter().rev() {
            if let Some(session) = self.read_upload(key).await? {
                return Ok(Some(session).filter(|session| !session.manifest.is_expired(now_unix_ms())));
            }
        }
        Ok(None)
    }

    /// Returns all sessions that can be resumed, by name.
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

    /// Writes a record and deletes older ones of the session.
    pub async fn put_upload(&self, session: &UploadSession) -> Result<(), Error> {
        let prefix = key::upload_prefix(&session.name);
        let older = self.objects.versions(&prefix).await?;
        let newest = older.last().map_or(Version::NONE, |key| key.split_version().1);
        let key = prefix.at(Version::after(newest));
        self.objects.put(&key, &session.encode()).await?;
        self.delete_all(&older).await
    }

    /// Deletes the session of a put that has ended.
    pub async fn end_upload(&self, name: &UploadName) -> Result<(), Error> {
        self.delete_all(&self.objects.versions(&key::upload_prefix(name)).await?).await
    }

    /// Deletes expired sessions.
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

    /// Returns the keys of all records, older ones first.
    async fn upload_keys(&self) -> Result<Vec<ObjectKey>, Error> {
        let folder = Path::from(UPLOADS);
        let objects = self.objects.list(&folder, &folder);
        let mut keys: Vec<ObjectKey> =
            objects.map_ok(|object| ObjectKey::from_path(object.location)).try_collect().await?;
        keys.sort_by_key(|key| key.split_version().1);
        Ok(keys)
    }

    /// Reads a record; `None` if it is missing or damaged. Work is then repeated, but no document is lost.
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
        let options = WriteOptions { ratio: Some(20), ..WriteOptions::default() };
        UploadSession { name: name.parse().unwrap(), options, manifest }
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
