//! What streams from the gateway to the caller: text and latents, taken as fast as the caller asks.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use c3_proto::pb::{self, get_latents_response, get_text_response};
use c3_proto::{Invalid, Window};
use futures::{Stream, StreamExt};
use tonic::Streaming;

use crate::upload::Reading;
use crate::{Document, Error};

/// A call's answers, which end early where the text that it sends cannot be read.
pub(crate) struct Answers<M> {
    answers: Streaming<M>,
    reading: Reading,
}

impl<M> Answers<M> {
    pub(crate) fn new(answers: Streaming<M>, reading: Reading) -> Self {
        Self { answers, reading }
    }
}

impl<M> Stream for Answers<M> {
    type Item = Result<M, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(error) = self.reading.poll_failed(context) {
            return Poll::Ready(Some(Err(error)));
        }
        let answer = ready!(Pin::new(&mut self.answers).poll_next(context));
        Poll::Ready(answer.map(|answer| answer.map_err(Error::from)))
    }
}

/// A document's text, or a range of it: a stream of pieces, each checked by the gateway against its stored hash.
pub struct Text {
    document: Document,
    range: Range<u64>,
    left: u64,
    answers: Answers<pb::GetTextResponse>,
}

impl Text {
    pub(crate) async fn open(mut answers: Answers<pb::GetTextResponse>) -> Result<Self, Error> {
        let first = answers.next().await.transpose()?.and_then(|first| first.part);
        let Some(get_text_response::Part::Header(header)) = first else {
            return Err(Error::missing("header"));
        };
        let document = header.document.ok_or_else(|| Error::missing("header.document"))?;
        let range = header.start..header.end;
        let left = range.end.saturating_sub(range.start);
        Ok(Self { document: Document::from_wire(document)?, range, left, answers })
    }

    /// The document that it is of.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The bytes of the document that will come: what was asked for, with open ends filled in.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Counts down what is still to come, so that a text that ends early or late is an error.
    fn checked(&mut self, answer: Option<pb::GetTextResponse>) -> Result<Option<Bytes>, Error> {
        let wrong = |problem: String| Err(Error::Answer(Invalid::new("text", problem)));
        match (answer.map(|answer| answer.part), self.left) {
            (Some(Some(get_text_response::Part::Text(text))), left) if text.len() as u64 <= left => {
                self.left -= text.len() as u64;
                Ok(Some(text))
            }
            (Some(_), left) => wrong(format!("more came than the {left} bytes that were due")),
            (None, 0) => Ok(None),
            (None, left) => wrong(format!("ended {left} bytes early")),
        }
    }
}

impl Stream for Text {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = ready!(self.answers.poll_next_unpin(context));
        Poll::Ready(answer.transpose().and_then(|answer| self.checked(answer)).transpose())
    }
}

/// A document's latents: a stream of windows, each checked.
pub struct DocumentLatents {
    document: Document,
    answers: Answers<pb::GetLatentsResponse>,
}

impl DocumentLatents {
    pub(crate) async fn open(mut answers: Answers<pb::GetLatentsResponse>) -> Result<Self, Error> {
        let first = answers.next().await.transpose()?.and_then(|first| first.part);
        let Some(get_latents_response::Part::Document(document)) = first else {
            return Err(Error::missing("document"));
        };
        Ok(Self { document: Document::from_wire(document)?, answers })
    }

    /// The document that they are of.
    pub fn document(&self) -> &Document {
        &self.document
    }
}

impl Stream for DocumentLatents {
    type Item = Result<Window, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = ready!(self.answers.poll_next_unpin(context));
        Poll::Ready(answer.map(|answer| match answer?.part {
            Some(get_latents_response::Part::Window(window)) => Ok(Window::from_wire(window)?),
            _ => Err(Error::missing("window")),
        }))
    }
}

/// Latents that were not stored: a stream of windows, each checked.
pub struct Windows(pub(crate) Answers<pb::CompressTextResponse>);

impl Stream for Windows {
    type Item = Result<Window, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = ready!(self.0.poll_next_unpin(context));
        Poll::Ready(answer.map(|answer| {
            let window = answer?.window.ok_or_else(|| Error::missing("window"))?;
            Ok(Window::from_wire(window)?)
        }))
    }
}
