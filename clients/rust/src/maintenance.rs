//! Upkeep of the gateway's store: sweeps, checks, and what a list cannot show.

use c3_proto::pb;
use c3_types::{DocumentId, Invalid};
use futures::StreamExt;

use crate::download::Answers;
use crate::{Document, Error};

/// A line of a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Listed {
    /// A document.
    Document(Box<Document>),
    /// One that is there and cannot be read.
    Damaged {
        /// BLAKE3 of its text.
        id: DocumentId,
        /// What is wrong.
        problem: String,
    },
}

/// A check under way.
pub struct Check(pub(crate) Answers<pb::CheckResponse>);

/// What a check tells.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckEvent {
    /// Something is wrong with an object.
    Finding(Finding),
    /// All was read. The last event.
    Done(pb::CheckSummary),
}

/// Something wrong with an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Its name in the store.
    pub object: String,
    /// What is wrong.
    pub problem: String,
    /// The document that it touches.
    pub document: Option<DocumentId>,
    /// Number of the first window of the document that it touches, where `windows` is over 0.
    pub first_window: u64,
    /// How many windows it touches; 0: all of the document.
    pub windows: u64,
    /// It was put right.
    pub repaired: bool,
}

impl Check {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<CheckEvent>, Error> {
        use pb::check_response::Part;
        let Some(answer) = self.0.next().await.transpose()? else { return Ok(None) };
        Ok(Some(match answer.part.ok_or_else(|| Error::missing("part"))? {
            Part::Finding(finding) => CheckEvent::Finding(Finding::from_wire(finding)?),
            Part::Summary(summary) => CheckEvent::Done(summary),
        }))
    }
}

impl Finding {
    fn from_wire(wire: pb::Finding) -> Result<Self, Invalid> {
        let pb::Finding { object, problem, document, first_window, windows, repaired } = wire;
        let document = match document.is_empty() {
            true => None,
            false => Some(DocumentId::try_from(document.as_ref())?),
        };
        Ok(Self { object, problem, document, first_window, windows, repaired })
    }
}
