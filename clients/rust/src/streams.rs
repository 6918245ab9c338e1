//! Response streams: text, latents, and the events of a write. Each receives only as fast as the caller polls it.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_stream::try_stream;
use bytes::Bytes;
use c3_proto::FromWire;
use c3_proto::pb::{self, get_latents_response, get_text_response};
use c3_types::{Document, Invalid, Progress, PutEvent, Stored, Window};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tonic::Streaming;

use crate::error::Error;
use crate::retry::{Gateway, Gateways};
use crate::upload::ReadFailure;

/// Responses of a call. Yields an error if the text that the call sends cannot be read.
pub(crate) struct ResponseStream<M> {
    responses: Streaming<M>,
    read_failure: ReadFailure,
}

impl<M> ResponseStream<M> {
    pub(crate) fn new(responses: Streaming<M>, read_failure: ReadFailure) -> Self {
        Self { responses, read_failure }
    }
}

impl<M> Stream for ResponseStream<M> {
    type Item = Result<M, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(error) = self.read_failure.poll(context) {
            return Poll::Ready(Some(Err(error)));
        }
        let response = ready!(Pin::new(&mut self.responses).poll_next(context));
        Poll::Ready(response.map(|response| response.map_err(Error::from)))
    }
}

/// A write or recode in progress. Dropping it cancels the call. If the document is not durable by then, nothing
/// changes.
pub struct Put(pub(crate) ResponseStream<pb::PutDocumentResponse>);

impl Put {
    /// Returns the next event; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<PutEvent>, Error> {
        let response = self.0.next().await.transpose()?;
        Ok(response.map(PutEvent::from_wire).transpose()?)
    }

    /// Waits until the document is durable, and returns the result.
    pub async fn finish(self) -> Result<Stored, Error> {
        self.finish_with(|_| ()).await
    }

    /// Like [`Self::finish`], and passes each progress report to `on_progress`.
    pub async fn finish_with(mut self, mut on_progress: impl FnMut(Progress)) -> Result<Stored, Error> {
        while let Some(event) = self.next().await? {
            match event {
                PutEvent::Progress(progress) => on_progress(progress),
                PutEvent::Stored(stored) => return Ok(*stored),
            }
        }
        Err(Error::missing("result"))
    }
}

/// Text of a document, or of a range of its bytes, as a stream. The gateway checks the hash of each window (part of the
/// text) before it sends the window's text. An interrupted stream resumes at the byte at which it stopped, if need be
/// on another gateway.
pub struct Text {
    document: Document,
    range: Range<u64>,
    pieces: BoxStream<'static, Result<Bytes, Error>>,
}

impl Text {
    pub(crate) async fn open(gateways: Arc<Gateways>, request: pb::GetTextRequest) -> Result<Self, Error> {
        let (document, range, responses) = open_text(&gateways, &request).await?;
        let pieces = pieces(gateways, document.id.to_string(), range.clone(), responses).boxed();
        Ok(Self { document, range, pieces })
    }

    /// Returns the document.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Returns the requested range of bytes. A range that was requested without an end ends with the document.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }
}

impl Stream for Text {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.poll_next_unpin(context)
    }
}

/// Opens a text, with retries. The returned stream yields the responses after the header.
async fn open_text(
    gateways: &Gateways,
    request: &pb::GetTextRequest,
) -> Result<(Document, Range<u64>, Streaming<pb::GetTextResponse>), Error> {
    let open = |mut gateway: Gateway| async move {
        let mut responses = gateway.get_text(request.clone()).await?.into_inner();
        let first = responses.message().await?.and_then(|first| first.part);
        let Some(get_text_response::Part::Header(header)) = first else {
            return Err(Error::missing("header"));
        };
        let document = header.document.ok_or_else(|| Error::missing("header.document"))?;
        Ok((Document::from_wire(document)?, header.start..header.end, responses))
    };
    gateways.retrying(open).await
}

/// Streams the pieces of a text. Fails if the gateway sends fewer or more bytes than the range has.
fn pieces(
    gateways: Arc<Gateways>,
    id: String,
    range: Range<u64>,
    mut responses: Streaming<pb::GetTextResponse>,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let invalid = |problem: String| Error::Response(Invalid::new("text", problem));
    try_stream! {
        let (mut at, mut retries) = (range.start, gateways.retries());
        loop {
            match responses.message().await.map(|response| response.map(|response| response.part)) {
                Ok(Some(Some(get_text_response::Part::Text(text)))) if text.len() as u64 <= range.end - at => {
                    at += text.len() as u64;
                    retries = gateways.retries();
                    yield text;
                }
                Ok(Some(_)) => Err(invalid(format!("must be a piece of at most {} bytes", range.end - at)))?,
                Ok(None) if at == range.end => break,
                Ok(None) => Err(invalid(format!("ends {} bytes before the range does", range.end - at)))?,
                // The text is complete, so an error at the end of the call does not matter.
                Err(_) if at == range.end => break,
                Err(status) => {
                    retries.wait(status.into(), &gateways).await?;
                    let request = pb::GetTextRequest { id: id.clone(), start: Some(at), end: Some(range.end) };
                    responses = open_text(&gateways, &request).await?.2;
                }
            }
        }
    }
}

/// Latents of a document, as a stream of windows. Fails at a window whose fields or checksum are invalid.
pub struct DocumentLatents {
    document: Document,
    responses: ResponseStream<pb::GetLatentsResponse>,
}

impl DocumentLatents {
    pub(crate) async fn open(mut responses: ResponseStream<pb::GetLatentsResponse>) -> Result<Self, Error> {
        let first = responses.next().await.transpose()?.and_then(|first| first.part);
        let Some(get_latents_response::Part::Document(document)) = first else {
            return Err(Error::missing("document"));
        };
        Ok(Self { document: Document::from_wire(document)?, responses })
    }

    /// Returns the document.
    pub fn document(&self) -> &Document {
        &self.document
    }
}

impl Stream for DocumentLatents {
    type Item = Result<Window, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let response = ready!(self.responses.poll_next_unpin(context));
        Poll::Ready(response.map(|response| match response?.part {
            Some(get_latents_response::Part::Window(window)) => Ok(Window::from_wire(window)?),
            _ => Err(Error::missing("window")),
        }))
    }
}
