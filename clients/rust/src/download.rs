//! What streams from the gateway to the caller: text and latents, taken as fast as the caller asks.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_stream::try_stream;
use bytes::Bytes;
use c3_proto::{FromWire, pb::{self, get_latents_response, get_text_response}};
use c3_types::{Invalid, Window};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tonic::Streaming;

use crate::retry::Gateway;
use crate::upload::Reading;
use crate::{Client, Document, Error};

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

/// A document's text, or a range of it: a stream of pieces, each checked by the gateway against its stored hash. Where
/// it breaks off, another gateway, or the same one later, goes on at the byte where it broke.
pub struct Text {
    document: Document,
    range: Range<u64>,
    pieces: BoxStream<'static, Result<Bytes, Error>>,
}

impl Text {
    pub(crate) async fn open(client: Client, request: pb::GetTextRequest) -> Result<Self, Error> {
        let (document, range, answers) = opened(&client, &request).await?;
        let pieces = pieces(client, document.id.to_string(), range.clone(), answers).boxed();
        Ok(Self { document, range, pieces })
    }

    /// The document that it is of.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The bytes of the document that will come: what was asked for, with open ends filled in.
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

/// A text's answers behind their header.
type TextAnswers = Streaming<pb::GetTextResponse>;

/// Opens a text at whichever gateway answers.
async fn opened(
    client: &Client,
    request: &pb::GetTextRequest,
) -> Result<(Document, Range<u64>, TextAnswers), Error> {
    let open = |mut gateway: Gateway| async move {
        let mut answers = gateway.get_text(request.clone()).await?.into_inner();
        let first = answers.message().await?.and_then(|first| first.part);
        let Some(get_text_response::Part::Header(header)) = first else {
            return Err(Error::missing("header"));
        };
        let document = header.document.ok_or_else(|| Error::missing("header.document"))?;
        Ok((Document::from_wire(document)?, header.start..header.end, answers))
    };
    client.retrying(open).await
}

/// The text piece by piece. Counts what came, so that a text that ends early or late is an error.
fn pieces(
    client: Client,
    id: String,
    range: Range<u64>,
    mut answers: TextAnswers,
) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let wrong = |problem: String| Error::Answer(Invalid::new("text", problem));
    try_stream! {
        let (mut at, mut patience) = (range.start, client.patience());
        loop {
            match answers.message().await.map(|answer| answer.map(|answer| answer.part)) {
                Ok(Some(Some(get_text_response::Part::Text(text)))) if text.len() as u64 <= range.end - at => {
                    at += text.len() as u64;
                    patience = client.patience();
                    yield text;
                }
                Ok(Some(_)) => Err(wrong(format!("more came than the {} bytes that were due", range.end - at)))?,
                Ok(None) if at == range.end => break,
                Ok(None) => Err(wrong(format!("ended {} bytes early", range.end - at)))?,
                // All is here: how the call ends does not matter any more.
                Err(_) if at == range.end => break,
                Err(status) => {
                    patience.after(status.into(), &client.gateways).await?;
                    let request = pb::GetTextRequest { id: id.clone(), start: Some(at), end: Some(range.end) };
                    answers = opened(&client, &request).await?.2;
                }
            }
        }
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
