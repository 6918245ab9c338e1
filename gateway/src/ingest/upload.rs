//! A put that can be taken up where it broke off, under the name that the caller or the gateway gave it.
//!
//! Shards are durable one by one, and found by what they hold: a text that is sent again redoes only what was in flight.
//! What a name adds is in the record that the store keeps of it: the options, without which other shards would be made,
//! and that sweeps take no shard that is done. A put that the caller named is recorded at once; every one that lasts
//! long is recorded now and then.

use std::time::{Duration, Instant};

use c3_types::{Base, DocumentId, Invalid, Labels, UploadName, WriteOptions};

use super::plan::Plan;
use super::progress::WriteProgress;
use crate::error::Error;
use crate::state::Gateway;
use c3_store::manifest::Manifest;
use c3_store::object::version::{Version, now_unix_ms};
use c3_store::upload_session::{UPLOAD_TTL, UploadSession};

/// Least time between two records of a put: what they cost is little beside it, also where the store is slow.
const RECORD_INTERVAL: Duration = Duration::from_secs(10);

/// A put that is under way, and how it is recorded.
pub(super) struct Upload {
    record: UploadSession,
    /// Whether the store has a record of it.
    state: State,
    looked: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is recorded, and nobody knows the name.
    Unknown,
    Recorded,
}

impl Upload {
    /// Binds the put to its options and, where the caller named it, records that, unless `found` is its record already.
    pub(super) async fn begin(
        gateway: &Gateway,
        plan: &Plan,
        options: &WriteOptions,
        found: Option<UploadSession>,
    ) -> Result<Self, Error> {
        let (looked, named) = (Instant::now(), options.upload.clone());
        if let Some(record) = found {
            return Ok(Self { record, state: State::Recorded, looked });
        }
        let name = match &named {
            Some(name) => name.clone(),
            None => Version::after(Version::NONE).to_string().parse()?,
        };
        // Of no document yet: it has the id of its name.
        let id = DocumentId::of(name.as_str().as_bytes());
        let manifest = Manifest { expires_unix_ms: Some(expiry()), ..plan.manifest(id, Vec::new()) };
        let record = UploadSession { options: bound(options, plan), name, manifest };
        let mut upload = Self { record, state: State::Unknown, looked };
        if named.is_some() {
            upload.write(gateway).await?;
        }
        Ok(upload)
    }

    /// The name, once the put can be taken up by it.
    pub(super) fn name(&self) -> Option<&UploadName> {
        (self.state == State::Recorded).then_some(&self.record.name)
    }

    /// Records what is done, if it is time to and there is more than was recorded.
    pub(super) async fn record(
        &mut self,
        gateway: &Gateway,
        plan: &Plan,
        progress: &WriteProgress,
    ) -> Result<(), Error> {
        if self.looked.elapsed() < RECORD_INTERVAL
            || progress.shards.len() <= self.record.manifest.shards.len()
        {
            return Ok(());
        }
        let manifest = plan.manifest(self.record.manifest.id, progress.shards.clone());
        self.record.manifest = Manifest { expires_unix_ms: Some(expiry()), ..manifest };
        self.write(gateway).await
    }

    /// The put has ended: there is nothing to take up.
    pub(super) async fn end(&self, gateway: &Gateway) {
        if self.state == State::Recorded
            && let Err(error) = gateway.store.end_upload(&self.record.name).await
        {
            // The document is stored. The record is past its time soon.
            tracing::warn!(%error, "the record of a put that has ended stays");
        }
    }

    async fn write(&mut self, gateway: &Gateway) -> Result<(), Error> {
        gateway.store.put_upload(&self.record).await?;
        self.state = State::Recorded;
        self.looked = Instant::now();
        Ok(())
    }
}

fn expiry() -> u64 {
    now_unix_ms().saturating_add(UPLOAD_TTL.as_millis() as u64)
}

/// The options that make the same shards again, whatever the gateway's settings are by then.
fn bound(options: &WriteOptions, plan: &Plan) -> WriteOptions {
    // A base's shards have their own ratios, where the caller names none.
    let one_ratio = (options.auto_ratio.is_none() && options.base.is_none()).then_some(plan.ratio);
    WriteOptions {
        cascade: Some(plan.cascade.name.clone()),
        ratio: options.ratio.or(one_ratio),
        codec: Some(plan.codec),
        skip_verification: plan.verification.is_none(),
        margin: plan.verification.as_ref().map(|how| how.margin),
        bytes: None,
        ttl_seconds: options.ttl_seconds,
        auto_ratio: options.auto_ratio.clone(),
        upload: None,
        base: options.base.clone(),
        name: None,
        labels: Labels::default(),
    }
}

/// What the options leave open, as the put was begun. Refuses what contradicts it.
pub(super) fn taken_up(options: WriteOptions, record: &UploadSession) -> Result<WriteOptions, Invalid> {
    let fixed = &record.options;
    let wrong = |field: &str| {
        let problem =
            format!("`{}` was begun with another {field}: leave it out, or take another name", record.name);
        Invalid::new("upload", problem)
    };
    if options.skip_verification && !fixed.skip_verification {
        return Err(wrong("choice about verification"));
    }
    Ok(WriteOptions {
        cascade: agreed(options.cascade, &fixed.cascade).ok_or_else(|| wrong("cascade"))?,
        ratio: agreed(options.ratio, &fixed.ratio).ok_or_else(|| wrong("ratio"))?,
        codec: agreed(options.codec, &fixed.codec).ok_or_else(|| wrong("codec"))?,
        skip_verification: fixed.skip_verification,
        margin: agreed(options.margin, &fixed.margin).ok_or_else(|| wrong("margin"))?,
        bytes: options.bytes,
        auto_ratio: agreed(options.auto_ratio, &fixed.auto_ratio).ok_or_else(|| wrong("choice of ratios"))?,
        ttl_seconds: agreed(options.ttl_seconds, &fixed.ttl_seconds).ok_or_else(|| wrong("time to live"))?,
        upload: options.upload,
        base: agreed(options.base, &fixed.base).ok_or_else(|| wrong("base"))?,
        // What the document is called is no part of how it is made.
        name: options.name,
        labels: options.labels,
    })
}

/// What is given, if it is what is fixed or left open.
fn agreed<T: PartialEq + Clone>(given: Option<T>, fixed: &Option<T>) -> Option<Option<T>> {
    (given.is_none() || given == *fixed).then(|| fixed.clone())
}

/// A base by its whole id, so that a name stays what it is when documents come.
pub(super) fn whole(base: &Base, id: DocumentId) -> Base {
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
    fn a_put_is_taken_up_as_it_was_begun() {
        let name: UploadName = "name".parse().unwrap();
        let options = WriteOptions {
            ratio: Some(20),
            codec: Some(LatentCodec::Q8_0),
            margin: Some(2.0),
            ..Default::default()
        };
        let record =
            UploadSession { name: name.clone(), options: options.clone(), manifest: manifest(&[], true) };
        let open = WriteOptions { upload: Some(name.clone()), bytes: Some(9), ..Default::default() };
        let taken = taken_up(open.clone(), &record).unwrap();
        assert_eq!(taken, WriteOptions { upload: Some(name), bytes: Some(9), ..options });
        assert_eq!(taken_up(taken.clone(), &record), Ok(taken));
        let others = [
            WriteOptions { ratio: Some(40), ..open.clone() },
            WriteOptions { skip_verification: true, ..open.clone() },
            WriteOptions { ttl_seconds: Some(9), ..open.clone() },
            WriteOptions { base: Some(Base::Edited("abcd".parse().unwrap())), ..open },
        ];
        for other in others {
            assert_eq!(taken_up(other, &record).unwrap_err().field, "upload");
        }
    }
}
