//! A put or a recode under way: how far it is, then what was stored.

use c3_proto::pb::{self, put_document_response::Event};
use futures::StreamExt;

use crate::download::Answers;
use crate::{Document, Error};

/// A put under way. Dropping it before [`PutEvent::Stored`] cancels it, and nothing is stored.
pub struct Put(pub(crate) Answers<pb::PutDocumentResponse>);

/// What a put tells.
#[derive(Clone, Debug)]
pub enum PutEvent {
    /// So many bytes of the text are compressed, verified and stored, but not yet visible.
    Progress {
        /// Bytes of the text.
        bytes_done: u64,
    },
    /// All of it is durable. The last event.
    Stored(Box<Stored>),
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
            Event::Progress(progress) => Ok(Some(PutEvent::Progress { bytes_done: progress.bytes_done })),
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

    /// Waits until all is stored, and tells `progress` how many bytes of the text are done.
    pub async fn finish_with(mut self, mut progress: impl FnMut(u64)) -> Result<Stored, Error> {
        while let Some(event) = self.next().await? {
            match event {
                PutEvent::Progress { bytes_done } => progress(bytes_done),
                PutEvent::Stored(stored) => return Ok(*stored),
            }
        }
        Err(Error::missing("result"))
    }
}
