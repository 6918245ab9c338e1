//! Writing by turns: a flush asks the scheduler for another turn, which comes after those of the calls that are ready, and
//! the bytes are written when that turn begins.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

/// Bytes that wait for a turn's end: some answers with a window of latents.
const BYTES_MAX: usize = 64 << 10;

/// The connections that come in, each writing once a turn.
pub fn by_turns(incoming: TcpIncoming) -> impl Stream<Item = io::Result<ByTurns<TcpStream>>> {
    incoming.map(|accepted| accepted.map(ByTurns::new))
}

/// A connection that writes once a turn of the task that polls it.
#[derive(Debug)]
pub struct ByTurns<T> {
    inner: T,
    /// Not written yet.
    waiting: BytesMut,
    /// How many of the waiting bytes were there at the last flush.
    flushed: usize,
}

impl<T: AsyncWrite + Unpin> ByTurns<T> {
    /// Over a connection to which nothing was written yet.
    pub fn new(inner: T) -> Self {
        Self { inner, waiting: BytesMut::new(), flushed: 0 }
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.waiting.advance(written),
            }
            self.flushed = self.flushed.min(self.waiting.len());
        }
        // Idle connections, of which there may be thousands, hold no memory for it.
        self.waiting = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for ByTurns<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A turn begins with reading, so what was flushed before is of an earlier one. Where the other side takes no more
        // now, the task is woken when it does.
        if self.flushed > 0
            && let Poll::Ready(Err(error)) = self.poll_write_out(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(cx, bytes)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ByTurns<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.waiting.len() + bytes.len() > BYTES_MAX {
            ready!(self.poll_write_out(cx))?;
        }
        let taken = bytes.len().min(BYTES_MAX);
        self.waiting.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    /// Ready at once, with another turn asked for; a flush of nothing new writes in any case.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.flushed == self.waiting.len() {
            ready!(self.poll_write_out(cx))?;
            return Pin::new(&mut self.inner).poll_flush(cx);
        }
        if self.flushed == 0 {
            cx.waker().wake_by_ref();
        }
        self.flushed = self.waiting.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl Connected for ByTurns<TcpStream> {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.inner.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    /// A connection, and the other side of it, which has room for so many bytes.
    fn pair(room: usize) -> (ByTurns<DuplexStream>, DuplexStream) {
        let (here, there) = tokio::io::duplex(room);
        (ByTurns::new(here), there)
    }

    /// What a task does in one turn before it waits for the other side: reads, and writes these, flushing after each.
    async fn turn(connection: &mut ByTurns<DuplexStream>, writes: &[&[u8]]) {
        let mut reads = [0; 8];
        assert!(polled_once(connection.read(&mut reads)).await.is_none());
        for bytes in writes {
            connection.write_all(bytes).await.unwrap();
            connection.flush().await.unwrap();
        }
    }

    /// What a future gives when it is polled once.
    async fn polled_once<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    async fn received(there: &mut DuplexStream) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 64];
        let read = polled_once(there.read(&mut bytes)).await?.unwrap();
        bytes.truncate(read);
        Some(bytes)
    }

    #[tokio::test]
    async fn what_is_flushed_in_a_turn_goes_out_together_in_the_next() {
        let (mut here, mut there) = pair(64);
        turn(&mut here, &[b"headers ", b"data ", b"trailers"]).await;
        assert_eq!(received(&mut there).await, None);
        turn(&mut here, &[b"next"]).await;
        assert_eq!(received(&mut there).await.unwrap(), b"headers data trailers");
        here.shutdown().await.unwrap();
        assert_eq!(received(&mut there).await.unwrap(), b"next");
    }

    #[tokio::test]
    async fn a_flush_of_nothing_new_writes_without_reading() {
        let (mut here, mut there) = pair(64);
        here.write_all(b"answer").await.unwrap();
        here.flush().await.unwrap();
        assert_eq!(received(&mut there).await, None);
        here.flush().await.unwrap();
        assert_eq!(received(&mut there).await.unwrap(), b"answer");
    }

    #[tokio::test]
    async fn a_flush_wakes_the_task() {
        let (here, mut there) = pair(64);
        let mut answered = false;
        let answering = tokio::spawn(async move {
            let mut here = here;
            let mut reads = [0; 8];
            std::future::poll_fn(|cx| {
                let read = Pin::new(&mut here).poll_read(cx, &mut ReadBuf::new(&mut reads));
                if !std::mem::replace(&mut answered, true) {
                    assert!(Pin::new(&mut here).poll_write(cx, b"answer").is_ready());
                    assert!(Pin::new(&mut here).poll_flush(cx).is_ready());
                }
                read
            })
            .await
        });
        let mut bytes = [0; 6];
        there.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"answer");
        drop(there);
        answering.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_side_that_reads_slowly_gets_everything_in_order() {
        let (mut here, mut there) = pair(7);
        let sent: Vec<u8> = (0..3 * BYTES_MAX).map(|number| (number % 251) as u8).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move {
            for bytes in sent.chunks(999) {
                here.write_all(bytes).await.unwrap();
                here.flush().await.unwrap();
            }
            here.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        there.read_to_end(&mut received).await.unwrap();
        sending.await.unwrap();
        assert!(received == expected);
    }
}
