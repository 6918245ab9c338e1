//! Uploads the caller's text, with back pressure.
//!
//! A gRPC client cannot end its request stream with an error. If reading the text fails, the request stream therefore
//! stays open without further messages, and [`ReadFailure`] makes the response stream fail. The caller then drops the
//! call, which cancels it, so the gateway never takes a truncated text for a complete one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use c3_types::limits::TEXT_PIECE_BYTES_MAX;
use futures::future::{Fuse, FutureExt};
use futures::stream::{self, Stream};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::oneshot;

use crate::error::Error;

/// Receives the error if the caller's text cannot be read.
pub(crate) struct ReadFailure(Fuse<oneshot::Receiver<io::Error>>);

impl ReadFailure {
    /// Returns a value that never receives an error, for calls that send no text.
    pub(crate) fn none() -> Self {
        Self(Fuse::terminated())
    }

    /// Returns the error once reading has failed, else [`Poll::Pending`].
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        match Pin::new(&mut self.0).poll(context) {
            Poll::Ready(Ok(error)) => Poll::Ready(Error::Read(error)),
            // The text was read to its end, or is still being read.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Waits for the response to `call` or for a read error, and returns whichever comes first.
    pub(crate) async fn or<T>(&mut self, call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, Error> {
        let failed = std::future::poll_fn(|context| self.poll(context));
        tokio::select! {
            error = failed => Err(error),
            response = call => Ok(response?),
        }
    }
}

/// Splits the text into pieces of up to [`TEXT_PIECE_BYTES_MAX`] bytes. Reads each piece only when the gateway accepts
/// it.
pub(crate) fn pieces(text: impl AsyncRead + Send + 'static) -> (impl Stream<Item = Bytes> + Send, ReadFailure) {
    let (failed, read_failure) = oneshot::channel();
    let pieces = stream::unfold((Box::pin(text), failed), async |(mut text, failed)| {
        let mut piece = BytesMut::with_capacity(TEXT_PIECE_BYTES_MAX);
        match text.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((piece.freeze(), (text, failed))),
            Err(error) => {
                // `send` fails if the call has ended. In that case, no one needs the error.
                let _ = failed.send(error);
                std::future::pending().await
            }
        }
    });
    (pieces, ReadFailure(read_failure.fuse()))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_text_arrives_in_bounded_pieces() {
        let text: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        let (pieces, _read_failure) = pieces(io::Cursor::new(text.clone()));
        let pieces: Vec<Bytes> = pieces.collect().await;
        assert!(pieces.iter().all(|piece| piece.len() <= TEXT_PIECE_BYTES_MAX));
        assert_eq!(pieces.concat(), text);
    }

    #[tokio::test]
    async fn a_text_that_cannot_be_read_never_ends_as_complete() {
        struct Broken;
        impl AsyncRead for Broken {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut tokio::io::ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::Error::other("disk failure")))
            }
        }
        let (pieces, mut read_failure) = pieces(Broken);
        let call = async {
            let _ended: Vec<Bytes> = pieces.chain(stream::iter([])).collect().await;
            Ok(())
        };
        let error = read_failure.or(call).await.unwrap_err();
        assert!(matches!(error, Error::Read(_)), "{error}");
    }
}
