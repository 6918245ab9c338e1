//! A put or a recode under way: how far it is, then what was stored.

use std::time::Duration;

use c3_proto::{FromWire, pb::{self, put_document_response::Event}};
use c3_types::{Invalid, UploadName};
use futures::StreamExt;

use crate::download::Answers;
use crate::{Document, Error};

/// A put under way. Dropping it before [`PutEvent::Stored`] cancels it, and nothing is stored.
pub struct Put(pub(crate) Answers<pb::PutDocumentResponse>);

/// What a put tells.
#[derive(Clone, Debug)]
pub enum PutEvent {
    /// How far it is.
    Progress(Progress),
    /// All of it is durable. The last event.
    Stored(Box<Stored>),
}

/// How far a put is. What is done is compressed, verified and stored, but not yet visible.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Bytes of the document that are done.
    pub bytes_done: u64,
    /// Bytes of these that were stored already.
    pub bytes_reused: u64,
    /// Until all is done, by the rate of what was computed; `None` where nobody can say.
    pub left: Option<Duration>,
    /// The name under which the put can be taken up where it breaks off, once there is one: `WriteOptions::upload`.
    pub upload: Option<UploadName>,
}

impl Progress {
    fn from_wire(wire: pb::PutProgress) -> Result<Self, Invalid> {
        let left = wire.seconds_left.map(Duration::try_from_secs_f64).transpose();
        Ok(Self {
            bytes_done: wire.bytes_done,
            bytes_reused: wire.bytes_reused,
            left: left.map_err(|_| Invalid::new("progress.seconds_left", "is no time"))?,
            upload: Option::from_wire(wire.upload)?,
        })
    }
}

/// What was stored and what that took.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The document.
    pub document: Document,
    /// Shards that were stored already: no model call was made for them.
    pub shards_reused: u64,
    /// Seconds that the gateway's calls of each stage took, summed over calls side by side.
    pub seconds: pb::StageSeconds,
    /// Where ratios were chosen: whether the document keeps the bound that they were chosen by.
    pub bound_met: Option<bool>,
}

impl Put {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<PutEvent>, Error> {
        let Some(answer) = self.0.next().await.transpose()? else { return Ok(None) };
        match answer.event.ok_or_else(|| Error::missing("event"))? {
            Event::Progress(progress) => Ok(Some(PutEvent::Progress(Progress::from_wire(progress)?))),
            Event::Result(result) => {
                let document = result.document.ok_or_else(|| Error::missing("result.document"))?;
                Ok(Some(PutEvent::Stored(Box::new(Stored {
                    document: Document::from_wire(document)?,
                    shards_reused: result.shards_reused,
                    seconds: result.seconds.unwrap_or_default(),
                    bound_met: result.bound_met,
                }))))
            }
        }
    }

    /// Waits until all is stored.
    pub async fn finish(self) -> Result<Stored, Error> {
        self.finish_with(|_| ()).await
    }

    /// Waits until all is stored, and tells `progress` how far it is.
    pub async fn finish_with(mut self, mut progress: impl FnMut(Progress)) -> Result<Stored, Error> {
        while let Some(event) = self.next().await? {
            match event {
                PutEvent::Progress(done) => progress(done),
                PutEvent::Stored(stored) => return Ok(*stored),
            }
        }
        Err(Error::missing("result"))
    }
}
