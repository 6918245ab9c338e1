//! Slow requests: their callers send so few bytes that a few of them could hold all permits for hours.
//!
//! Time counts only while the server waits for the caller. A slow call soon gives up its permit, but goes on: its
//! caller may be a person who types, or a program that computes. There are at most as many slow calls as permits, and
//! each ends after a limit.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::admission::{Permit, SlowSlot};

/// Time of waiting after which a caller's rate is judged. Longer than the pause after a lost packet.
const WINDOW: Duration = Duration::from_secs(2);
/// Bytes that a caller must send in this time. A slow modem sends ten times as many.
const WINDOW_BYTES: usize = 128;

/// Error that ends the body of a slow request.
#[derive(Debug, thiserror::Error)]
#[error("the request was sent too slowly: send at least 64 bytes a second")]
struct TooSlow;

/// Body of a request. Gives up the permit of its call if the caller is slow, and fails if it stays slow.
pub(crate) struct RequestBody {
    inner: Body,
    permit: Arc<Permit>,
    /// Time for which a call may be slow.
    slow_max: Duration,
    /// Bytes received in the current window.
    bytes: usize,
    wait: Wait,
    /// Slot of the slow call and the time when it became slow; `None` if it is not slow.
    slow: Option<(SlowSlot, Instant)>,
}

/// Time that the current window waited for the caller.
enum Wait {
    /// The server is not waiting. It has waited for this time.
    Paused(Duration),
    /// The server waits until the window ends, which began at this time if it waited all the time.
    Running(Pin<Box<Sleep>>, Instant),
}

impl RequestBody {
    /// Wraps the body of a call that holds `permit`. The call fails after it was slow for `slow_max`.
    pub(crate) fn new(inner: Body, permit: Arc<Permit>, slow_max: Duration) -> Self {
        Self { inner, permit, slow_max, bytes: 0, wait: Wait::Paused(Duration::ZERO), slow: None }
    }

    /// Records that a piece of the body has arrived.
    fn received(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.wait = Wait::Paused(match self.wait {
            _ if self.bytes >= WINDOW_BYTES => Duration::ZERO,
            Wait::Paused(waited) => waited,
            Wait::Running(_, since) => since.elapsed(),
        });
        if self.bytes >= WINDOW_BYTES {
            self.bytes = 0;
            self.slow = None;
        }
    }

    /// Waits for the next piece. Becomes ready when the call must end.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<TooSlow> {
        loop {
            let sleep = match &mut self.wait {
                Wait::Running(sleep, _) => sleep,
                Wait::Paused(waited) => {
                    let (since, left) = (Instant::now() - *waited, WINDOW.saturating_sub(*waited));
                    self.wait = Wait::Running(Box::pin(sleep(left)), since);
                    continue;
                }
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // A window has ended with too few bytes.
            (self.bytes, self.wait) = (0, Wait::Paused(Duration::ZERO));
            match self.slow.take() {
                Some((_, since)) if since.elapsed() >= self.slow_max => return Poll::Ready(TooSlow),
                Some(slow) => self.slow = Some(slow),
                None => match self.permit.release_slow() {
                    Some(slot) => self.slow = Some((slot, Instant::now())),
                    None => return Poll::Ready(TooSlow),
                },
            }
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.received(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(end) => {
                self.slow = None;
                Poll::Ready(end.map(|error| error.map_err(Into::into)))
            }
            Poll::Pending => self.poll_wait(cx).map(|slow| Some(Err(slow.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt, stream};
    use http::Request;
    use tokio::time::timeout;

    use super::*;
    use crate::Readiness;
    use crate::admission::Admission;

    const SLOW_MAX: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    fn admission(calls_max: usize) -> Admission {
        let readiness = Readiness::default();
        readiness.set_ready();
        Admission::new(readiness, calls_max, &[])
    }

    fn admit(admission: &Admission) -> Option<Arc<Permit>> {
        admission.admit(&Request::get("/").body(()).unwrap()).ok().flatten()
    }

    /// Returns a body of which a piece of `bytes` bytes arrives `pause` after the previous one was read.
    fn body(admission: &Admission, bytes: usize, pause: Duration) -> Body {
        let pieces = stream::repeat(Bytes::from(vec![b'x'; bytes])).then(move |piece| async move {
            sleep(pause).await;
            Ok::<_, Infallible>(piece)
        });
        Body::new(RequestBody::new(Body::from_stream(pieces), admit(admission).unwrap(), SLOW_MAX))
    }

    /// Reads a body until it fails.
    async fn read(body: Body) -> String {
        let mut pieces = body.into_data_stream();
        loop {
            if let Some(Err(error)) = pieces.next().await {
                return error.to_string();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_call_soon_gives_up_its_permit_and_ends_later() {
        let admission = admission(1);
        let (begun, body) = (Instant::now(), body(&admission, 1, SECOND));
        assert!(admit(&admission).is_none());
        let mut read = Box::pin(read(body));
        assert!(timeout(2 * WINDOW, &mut read).await.is_err());
        assert!(admit(&admission).is_some());
        assert!(read.await.contains("too slowly"));
        assert!((SLOW_MAX..SLOW_MAX + 4 * WINDOW).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert!(admit(&admission).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_at_the_minimum_rate_keeps_its_permit() {
        let admission = admission(1);
        let body = body(&admission, WINDOW_BYTES / 2 + 1, SECOND);
        assert!(timeout(10 * SLOW_MAX, read(body)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn slow_calls_are_at_most_as_many_as_permits() {
        let admission = admission(2);
        let mut slow = Vec::new();
        for _ in 0..2 {
            let mut read = Box::pin(read(body(&admission, 1, SECOND)));
            assert!(timeout(2 * WINDOW, &mut read).await.is_err());
            slow.push(read);
        }
        let begun = Instant::now();
        assert!(read(body(&admission, 1, SECOND)).await.contains("too slowly"));
        assert!(begun.elapsed() <= 2 * WINDOW);
        drop(slow);
        assert!(timeout(2 * WINDOW, read(body(&admission, 1, SECOND))).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_server_does_not_read_does_not_count() {
        let admission = admission(1);
        let mut pieces = body(&admission, 1, SECOND / 10).into_data_stream();
        for _ in 0..15 {
            pieces.next().await.unwrap().unwrap();
            sleep(10 * SECOND).await;
            assert!(admit(&admission).is_none());
        }
        // The waits together exceed the window.
        for _ in 0..15 {
            pieces.next().await.unwrap().unwrap();
        }
        assert!(admit(&admission).is_some());
    }
}
