//! Uploads: puts that can be resumed after an interruption, by a name that the caller or the gateway chose.
//!
//! Shards become durable one by one and are content-addressed. If the caller sends a text again with the same options,
//! only shards that were not finished are computed. A *session* in the store records these options, and protects the
//! finished shards from garbage collection. The session is saved immediately if the caller named the upload, else once
//! the put has taken longer than [`SAVE_INTERVAL`].

use std::time::{Duration, Instant};

use bytes::Bytes;
use c3_proto::pb;
use c3_proto::{FromWire, ToWire};
use c3_store::manifest::Manifest;
use c3_store::object::version::{Version, now_unix_ms};
use c3_store::upload_session::{UPLOAD_TTL, UploadSession};
use c3_types::{Base, DocumentId, Invalid, Labels, UploadName, WriteOptions};
use prost::Message;

use super::plan::WritePlan;
use super::progress::WriteProgress;
use crate::error::Error;
use crate::state::Gateway;

/// Minimum time between two saves of a session. Saves then cost little even on a slow store.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// Upload session of a put in progress.
pub(super) struct Upload {
    session: UploadSession,
    /// True if the store has the session.
    is_saved: bool,
    /// Time of the last save; before the first one, time of the start.
    saved: Instant,
}

impl Upload {
    /// Continues the session `resumed`, or begins one with these options and saves it if the caller named the upload.
    pub(super) async fn begin(
        gateway: &Gateway,
        plan: &WritePlan,
        options: &WriteOptions,
        resumed: Option<UploadSession>,
    ) -> Result<Self, Error> {
        let saved = Instant::now();
        if let Some(session) = resumed {
            return Ok(Self { session, is_saved: true, saved });
        }
        let name = match &options.upload {
            Some(name) => name.clone(),
            None => Version::after(Version::NONE).to_string().parse()?,
        };
        // Placeholder for the document's id, which is known only at the end of the text.
        let id = DocumentId::of(name.as_str().as_bytes());
        let manifest = Manifest { expires_unix_ms: Some(expiry()), ..plan.manifest(id, Vec::new()) };
        let session = UploadSession { options: encode(&resolved_options(options, plan)), name, manifest };
        let mut upload = Self { session, is_saved: false, saved };
        if options.upload.is_some() {
            upload.put_session(gateway).await?;
        }
        Ok(upload)
    }

    /// Returns the name of the upload; `None` while the store has no session to resume.
    pub(super) fn name(&self) -> Option<&UploadName> {
        self.is_saved.then_some(&self.session.name)
    }

    /// Saves the progress if it exceeds the saved progress and [`SAVE_INTERVAL`] has passed since the last save.
    pub(super) async fn save(
        &mut self,
        gateway: &Gateway,
        plan: &WritePlan,
        progress: &WriteProgress,
    ) -> Result<(), Error> {
        if self.saved.elapsed() < SAVE_INTERVAL || progress.shards.len() <= self.session.manifest.shards.len() {
            return Ok(());
        }
        let manifest = plan.manifest(self.session.manifest.id, progress.shards.clone());
        self.session.manifest = Manifest { expires_unix_ms: Some(expiry()), ..manifest };
        self.put_session(gateway).await
    }

    /// Removes the session of a finished put. A failure is only logged, because the document is stored.
    pub(super) async fn end(&self, gateway: &Gateway) {
        if self.is_saved
            && let Err(error) = gateway.store.end_upload(&self.session.name).await
        {
            tracing::warn!(%error, "could not remove an upload session, it expires by itself");
        }
    }

    async fn put_session(&mut self, gateway: &Gateway) -> Result<(), Error> {
        gateway.store.put_upload(&self.session).await?;
        (self.is_saved, self.saved) = (true, Instant::now());
        Ok(())
    }
}

fn expiry() -> u64 {
    now_unix_ms().saturating_add(UPLOAD_TTL.as_millis() as u64)
}

/// Returns options that produce the same shards again even if the gateway's settings change.
fn resolved_options(options: &WriteOptions, plan: &WritePlan) -> WriteOptions {
    // If a put with a base document requests no ratio, the shards of the base keep their own ratios. So no ratio is
    // saved.
    let ratio = (options.auto_ratio.is_none() && options.base.is_none()).then_some(plan.ratio);
    WriteOptions {
        cascade: Some(plan.cascade.name.clone()),
        ratio: options.ratio.or(ratio),
        codec: Some(plan.codec),
        skip_verification: plan.verification.is_none(),
        margin: plan.verification.as_ref().map(|verification| verification.margin),
        bytes: None,
        ttl_seconds: options.ttl_seconds,
        auto_ratio: options.auto_ratio.clone(),
        upload: None,
        base: options.base.clone(),
        name: None,
        labels: Labels::default(),
        skip_search: options.skip_search,
    }
}

/// Encodes the options of a session as a message of the protocol.
fn encode(options: &WriteOptions) -> Bytes {
    options.to_wire().encode_to_vec().into()
}

/// Decodes the options of a session. Fails if they are invalid, for example if a later gateway version wrote them.
pub(crate) fn saved_options(session: &UploadSession) -> Result<WriteOptions, Invalid> {
    let later = |problem: String| Invalid::new("upload", format!("`{}` cannot be resumed: {problem}", session.name));
    let options = pb::WriteOptions::decode(session.options.clone()).map_err(|error| later(error.to_string()))?;
    WriteOptions::from_wire(options).map_err(|invalid| later(invalid.to_string()))
}

/// Takes the options that affect the shards or the expiry from `saved`. Fails if `options` sets one of them
/// differently.
pub(super) fn resume(options: WriteOptions, saved: &WriteOptions) -> Result<WriteOptions, Invalid> {
    let conflict =
        |field: &str| Invalid::new("upload", format!("was begun with another {field}: omit it, or choose a new name"));
    if options.skip_verification && !saved.skip_verification {
        return Err(conflict("choice about verification"));
    }
    if options.skip_search && !saved.skip_search {
        return Err(conflict("choice about search"));
    }
    Ok(WriteOptions {
        cascade: reconcile(options.cascade, &saved.cascade).ok_or_else(|| conflict("cascade"))?,
        ratio: reconcile(options.ratio, &saved.ratio).ok_or_else(|| conflict("ratio"))?,
        codec: reconcile(options.codec, &saved.codec).ok_or_else(|| conflict("codec"))?,
        skip_verification: saved.skip_verification,
        skip_search: saved.skip_search,
        margin: reconcile(options.margin, &saved.margin).ok_or_else(|| conflict("margin"))?,
        auto_ratio: reconcile(options.auto_ratio, &saved.auto_ratio).ok_or_else(|| conflict("choice of ratios"))?,
        ttl_seconds: reconcile(options.ttl_seconds, &saved.ttl_seconds).ok_or_else(|| conflict("time to live"))?,
        base: reconcile(options.base, &saved.base).ok_or_else(|| conflict("base"))?,
        // The size, upload name, document name and labels may differ.
        ..options
    })
}

/// Returns the saved value, or `None` if a different one is given.
fn reconcile<T: PartialEq + Clone>(given: Option<T>, saved: &Option<T>) -> Option<Option<T>> {
    (given.is_none() || given == *saved).then(|| saved.clone())
}

/// Replaces the id prefix of a base document with its full id. A prefix may become ambiguous when other documents are
/// added.
pub(super) fn with_full_id(base: &Base, id: DocumentId) -> Base {
    match base {
        Base::Edited(_) => Base::Edited(id.into()),
        Base::Appended(_) => Base::Appended(id.into()),
    }
}

#[cfg(test)]
mod tests {
    use c3_types::LatentCodec;

    use super::*;
    use crate::test_data::manifest;

    #[test]
    fn a_resumed_put_keeps_its_options() {
        let saved =
            WriteOptions { ratio: Some(20), codec: Some(LatentCodec::Q8_0), margin: Some(2.0), ..Default::default() };
        let name: UploadName = "name".parse().unwrap();
        let session = UploadSession { name: name.clone(), options: encode(&saved), manifest: manifest(&[], true) };
        assert_eq!(saved_options(&session).as_ref(), Ok(&saved));
        let unset = WriteOptions { upload: Some(name.clone()), bytes: Some(9), ..Default::default() };
        let resumed = resume(unset.clone(), &saved).unwrap();
        assert_eq!(resumed, WriteOptions { upload: Some(name), bytes: Some(9), ..saved.clone() });
        assert_eq!(resume(resumed.clone(), &saved), Ok(resumed));
        let conflicting = [
            WriteOptions { ratio: Some(40), ..unset.clone() },
            WriteOptions { skip_verification: true, ..unset.clone() },
            WriteOptions { ttl_seconds: Some(9), ..unset.clone() },
            WriteOptions { base: Some(Base::Edited("abcd".parse().unwrap())), ..unset },
        ];
        for options in conflicting {
            assert_eq!(resume(options, &saved).unwrap_err().field, "upload");
        }
    }
}
