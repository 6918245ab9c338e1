//! Splits a stream of request messages into an optional head, such as options, and a body.

use c3_server::ServiceError;
use c3_types::Invalid;
use futures::{Stream, StreamExt, stream};
use tonic::{Status, Streaming};

use crate::error::Error;

/// A message of a request stream.
pub(super) enum Part<H, B> {
    /// The head. Only the first message may be one.
    Head(H),
    Body(B),
}

/// Waits for the first message. Returns the head if that message is one, and the stream of the body.
///
/// Fails if the stream fails before the first message, or `read` rejects that message. The body stream yields an error
/// if the request stream fails later, `read` rejects a later message, or a later message is a head.
pub(super) async fn split<M, H, B>(
    mut inbound: Streaming<M>,
    read: impl Fn(M) -> Result<Part<H, B>, Invalid> + Send + 'static,
) -> Result<(Option<H>, impl Stream<Item = Result<B, Error>> + Send + 'static), Status>
where
    M: Send + 'static,
    H: Send + 'static,
    B: Send + 'static,
{
    let first = inbound.message().await?.map(&read).transpose().map_err(|invalid| invalid.status())?;
    let (head, body) = match first {
        Some(Part::Head(head)) => (Some(head), None),
        Some(Part::Body(body)) => (None, Some(Ok(body))),
        None => (None, None),
    };
    let rest = inbound.map(move |message| match read(message.map_err(Error::Inbound)?)? {
        Part::Body(body) => Ok(body),
        Part::Head(_) => Err(Invalid::new("part", "only the first message may be options or a document").into()),
    });
    Ok((head, stream::iter(body).chain(rest)))
}
