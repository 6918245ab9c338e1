//! Streams of request messages that begin with an optional head, such as options.

use c3_server::ServiceError;
use c3_types::Invalid;
use futures::{Stream, StreamExt, stream};
use tonic::{Status, Streaming};

use crate::error::Error;

/// A message of a request stream.
pub(super) enum Part<H, B> {
    /// The head, which only the first message may be.
    Head(H),
    /// Part of the body.
    Body(B),
}

/// Splits a request stream into its head, if it has one, and the stream of its body.
///
/// Errors: a stream that was interrupted, a message that `read` refuses, or a head that is not the first message.
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
        Part::Head(_) => {
            Err(Invalid::new("part", "options or a document must be the first message, and only that").into())
        }
    });
    Ok((head, stream::iter(body).chain(rest)))
}
