//! Stored documents, and the progress and results of writes.

use std::time::Duration;

use c3_types::{
    Cascade, DecompressOptions, Document, DocumentId, Invalid, Labels, Progress, Prompt, PutEvent, StageTimes, Stored,
    Upload, Verification, WriteOptions,
};

use super::{FromWire, ToWire, required};
use crate::pb;

impl FromWire<pb::Document> for Document {
    fn from_wire(wire: pb::Document) -> Result<Self, Invalid> {
        Ok(Self {
            id: DocumentId::try_from(wire.id.as_ref())?,
            bytes: wire.bytes,
            tokens: wire.tokens,
            latents: wire.latents,
            ratio: wire.ratio,
            codec: required("document.codec", Option::from_wire(wire.codec)?)?,
            verification: wire.verified.then_some(Verification {
                tokens_right: wire.tokens_right,
                corrections: wire.corrections,
                exact_windows: wire.exact_windows,
                margin: wire.margin,
                arithmetic: wire.arithmetic,
            }),
            cascade: Cascade::from_wire(required("document.cascade", wire.cascade)?)?,
            shards: wire.shards,
            windows: wire.windows,
            stored_bytes: wire.stored_bytes,
            created_unix_ms: wire.created_unix_ms,
            expires_unix_ms: wire.expires_unix_ms,
            labels: Labels::new(wire.labels)?,
            names: wire.names,
        })
    }
}

impl ToWire for Document {
    type Wire = pb::Document;

    fn to_wire(&self) -> pb::Document {
        let verification = self.verification.as_ref();
        pb::Document {
            id: self.id.to_wire(),
            bytes: self.bytes,
            tokens: self.tokens,
            latents: self.latents,
            ratio: self.ratio,
            codec: self.codec.to_wire(),
            verified: verification.is_some(),
            tokens_right: verification.map_or(0, |verification| verification.tokens_right),
            corrections: verification.map_or(0, |verification| verification.corrections),
            margin: verification.map_or(0.0, |verification| verification.margin),
            cascade: Some(self.cascade.to_wire()),
            arithmetic: verification.map_or_else(String::new, |verification| verification.arithmetic.clone()),
            shards: self.shards,
            windows: self.windows,
            stored_bytes: self.stored_bytes,
            created_unix_ms: self.created_unix_ms,
            expires_unix_ms: self.expires_unix_ms,
            labels: self.labels.to_wire(),
            names: self.names.clone(),
            hex_id: self.id.to_string(),
            exact_windows: verification.and_then(|verification| verification.exact_windows),
        }
    }
}

impl FromWire<pb::PutProgress> for Progress {
    fn from_wire(wire: pb::PutProgress) -> Result<Self, Invalid> {
        Ok(Self {
            bytes_done: wire.bytes_done,
            tokens_done: wire.tokens_done,
            bytes_reused: wire.bytes_reused,
            // Gateways of earlier versions do not report it.
            bytes_compressed: wire.bytes_compressed.max(wire.bytes_done),
            time_left: wire.seconds_left.map(|seconds| duration("progress.seconds_left", seconds)).transpose()?,
            upload: Option::from_wire(wire.upload)?,
        })
    }
}

impl ToWire for Progress {
    type Wire = pb::PutProgress;

    fn to_wire(&self) -> pb::PutProgress {
        pb::PutProgress {
            bytes_done: self.bytes_done,
            tokens_done: self.tokens_done,
            bytes_reused: self.bytes_reused,
            bytes_compressed: self.bytes_compressed,
            seconds_left: self.time_left.as_ref().map(Duration::as_secs_f64),
            upload: self.upload.as_ref().map_or_else(String::new, ToString::to_string),
        }
    }
}

impl FromWire<pb::PutResult> for Stored {
    fn from_wire(wire: pb::PutResult) -> Result<Self, Invalid> {
        let seconds = wire.seconds.unwrap_or_default();
        Ok(Self {
            document: Document::from_wire(required("result.document", wire.document)?)?,
            shards_reused: wire.shards_reused,
            times: StageTimes {
                compress: duration("result.seconds", seconds.compress)?,
                verify: duration("result.seconds", seconds.verify)?,
                store: duration("result.seconds", seconds.store)?,
            },
            bound_met: wire.bound_met,
            already_stored: wire.already_stored,
        })
    }
}

impl ToWire for Stored {
    type Wire = pb::PutResult;

    fn to_wire(&self) -> pb::PutResult {
        pb::PutResult {
            document: Some(self.document.to_wire()),
            shards_reused: self.shards_reused,
            seconds: Some(pb::StageSeconds {
                compress: self.times.compress.as_secs_f64(),
                verify: self.times.verify.as_secs_f64(),
                store: self.times.store.as_secs_f64(),
            }),
            bound_met: self.bound_met,
            already_stored: self.already_stored,
        }
    }
}

impl FromWire<pb::PutDocumentResponse> for PutEvent {
    fn from_wire(wire: pb::PutDocumentResponse) -> Result<Self, Invalid> {
        use pb::put_document_response::Event;
        match required("event", wire.event)? {
            Event::Progress(progress) => Progress::from_wire(progress).map(Self::Progress),
            Event::Result(result) => Ok(Self::Stored(Box::new(Stored::from_wire(result)?))),
        }
    }
}

impl ToWire for PutEvent {
    type Wire = pb::PutDocumentResponse;

    fn to_wire(&self) -> pb::PutDocumentResponse {
        use pb::put_document_response::Event;
        let event = match self {
            Self::Progress(progress) => Event::Progress(progress.to_wire()),
            Self::Stored(stored) => Event::Result(stored.to_wire()),
        };
        pb::PutDocumentResponse { event: Some(event) }
    }
}

impl FromWire<pb::Upload> for Upload {
    fn from_wire(wire: pb::Upload) -> Result<Self, Invalid> {
        Ok(Self {
            name: wire.name.parse()?,
            bytes_done: wire.bytes_done,
            tokens_done: wire.tokens_done,
            options: WriteOptions::from_wire(wire.options.unwrap_or_default())?,
            expires_unix_ms: wire.expires_unix_ms,
        })
    }
}

impl ToWire for Upload {
    type Wire = pb::Upload;

    fn to_wire(&self) -> pb::Upload {
        pb::Upload {
            name: self.name.to_string(),
            bytes_done: self.bytes_done,
            tokens_done: self.tokens_done,
            options: Some(self.options.to_wire()),
            expires_unix_ms: self.expires_unix_ms,
        }
    }
}

impl FromWire<pb::DecompressOptions> for DecompressOptions {
    fn from_wire(wire: pb::DecompressOptions) -> Result<Self, Invalid> {
        Ok(Self {
            cascade: Some(wire.cascade).filter(|name| !name.is_empty()),
            prompt: wire.prompt.map(|text| Prompt { text, tokens_max: wire.tokens_max }),
        })
    }
}

impl ToWire for DecompressOptions {
    type Wire = pb::DecompressOptions;

    fn to_wire(&self) -> pb::DecompressOptions {
        pb::DecompressOptions {
            cascade: self.cascade.clone().unwrap_or_default(),
            prompt: self.prompt.as_ref().map(|prompt| prompt.text.clone()),
            tokens_max: self.prompt.as_ref().map_or(0, |prompt| prompt.tokens_max),
        }
    }
}

fn duration(field: &'static str, seconds: f64) -> Result<Duration, Invalid> {
    Duration::try_from_secs_f64(seconds).map_err(|_| Invalid::new(field, format!("must be at least 0, is {seconds}")))
}

#[cfg(test)]
mod tests {
    use c3_types::{Fingerprint, LatentCodec};

    use super::*;

    fn document() -> Document {
        let (compressor, decoder) = (Fingerprint::of(b"compressor"), Fingerprint::of(b"decoder"));
        Document {
            id: DocumentId::of(b"text"),
            bytes: 4,
            tokens: 40,
            latents: 2,
            ratio: 20,
            codec: LatentCodec::Q4_0,
            verification: Some(Verification {
                tokens_right: 39,
                corrections: 2,
                exact_windows: Some(0),
                margin: 2.0,
                arithmetic: "f32".to_owned(),
            }),
            cascade: Cascade::new("c3-mini".to_owned(), compressor, decoder).unwrap(),
            shards: 1,
            windows: 1,
            stored_bytes: 1000,
            created_unix_ms: 1,
            expires_unix_ms: Some(2),
            labels: Labels::new([("lang".to_owned(), "de".to_owned())]).unwrap(),
            names: vec!["book".to_owned()],
        }
    }

    #[test]
    fn a_document_survives_the_wire() {
        let unverified = Document { verification: None, ..document() };
        for document in [document(), unverified] {
            assert_eq!(Document::from_wire(document.to_wire()), Ok(document));
        }
    }

    #[test]
    fn events_of_a_write_survive_the_wire() {
        let progress = Progress {
            bytes_done: 3,
            tokens_done: 2,
            bytes_reused: 1,
            bytes_compressed: 5,
            time_left: Some(Duration::from_millis(1500)),
            upload: Some("night-run_1".parse().unwrap()),
        };
        let times = StageTimes { compress: Duration::from_millis(250), ..StageTimes::default() };
        let stored =
            Stored { document: document(), shards_reused: 1, times, bound_met: Some(true), already_stored: true };
        for event in [PutEvent::Progress(progress), PutEvent::Stored(Box::new(stored))] {
            assert_eq!(PutEvent::from_wire(event.to_wire()), Ok(event));
        }
        let wrong = pb::PutProgress { seconds_left: Some(-1.0), ..Default::default() };
        assert_eq!(Progress::from_wire(wrong).unwrap_err().field, "progress.seconds_left");
    }
}
