//! The caller's text on its way to the gateway, with back pressure.
//!
//! A request stream of gRPC can only end well. So where reading fails the stream stalls, the answer's side learns why
//! through [`Reading`] and drops the call: a text that was cut short is never taken for a whole one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use c3_types::limits::TEXT_PIECE_BYTES_MAX;
use futures::future::{Fuse, FutureExt};
use futures::stream::{self, Stream};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::oneshot;

use crate::Error;

/// Whether reading the caller's text failed.
pub(crate) struct Reading(Fuse<oneshot::Receiver<io::Error>>);

impl Reading {
    /// Of a call that reads nothing.
    pub(crate) fn none() -> Self {
        Self(Fuse::terminated())
    }

    /// Ready once reading failed.
    pub(crate) fn poll_failed(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        match Pin::new(&mut self.0).poll(context) {
            Poll::Ready(Ok(error)) => Poll::Ready(Error::Read(error)),
            // All was read, or there is still something to read.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// What `call` answers, or why the text could not be read.
    pub(crate) async fn or<T>(
        &mut self,
        call: impl Future<Output = Result<T, tonic::Status>>,
    ) -> Result<T, Error> {
        let failed = std::future::poll_fn(|context| self.poll_failed(context));
        tokio::select! {
            error = failed => Err(error),
            answer = call => Ok(answer?),
        }
    }
}

/// The text in pieces, each read when the gateway takes it.
pub(crate) fn pieces(text: impl AsyncRead + Send + 'static) -> (impl Stream<Item = Bytes> + Send, Reading) {
    let (failed, reading) = oneshot::channel();
    let pieces = stream::unfold((Box::pin(text), failed), async |(mut text, failed)| {
        let mut piece = BytesMut::with_capacity(TEXT_PIECE_BYTES_MAX);
        match text.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((piece.freeze(), (text, failed))),
            Err(error) => {
                // Nobody is left to tell where the call is over already.
                let _ = failed.send(error);
                std::future::pending().await
            }
        }
    });
    (pieces, Reading(reading.fuse()))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio_stream::iter;

    use super::*;

    #[tokio::test]
    async fn a_text_arrives_in_bounded_pieces() {
        let text: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        let (pieces, _reading) = pieces(io::Cursor::new(text.clone()));
        let pieces: Vec<Bytes> = pieces.collect().await;
        assert!(pieces.iter().all(|piece| piece.len() <= TEXT_PIECE_BYTES_MAX));
        assert_eq!(pieces.concat(), text);
    }

    #[tokio::test]
    async fn a_text_that_cannot_be_read_never_ends_well() {
        struct Broken;
        impl AsyncRead for Broken {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut tokio::io::ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::Error::other("the disk is gone")))
            }
        }
        let (pieces, mut reading) = pieces(Broken);
        let call = async {
            let _ended: Vec<Bytes> = pieces.chain(iter([])).collect().await;
            Ok(())
        };
        let error = reading.or(call).await.unwrap_err();
        assert!(matches!(error, Error::Read(_)), "{error}");
    }
}
