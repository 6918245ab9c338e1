//! Stalled responses: the caller takes no more bytes of them, because it does not read or its network is gone.
//!
//! hyper asks a response's body for the next frame only once the caller has room for the previous one. If a body gave a
//! frame and is not asked again, its response is therefore waiting for the caller. The body is not polled meanwhile, so
//! it cannot notice the stall. The task that drives the response notices it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep};

use crate::admission::Permit;

/// Multiple of the stall timeout after which a stalled response is ended. Its permit is released after one timeout. By
/// the end, the caller has had time to recover, and the memory that the response holds is worth more than the response.
const END_FACTOR: u32 = 10;

thread_local! {
    /// Last event of a response's body during the current poll of the task that drives the response.
    static BODY: RefCell<BodyEvent> = const { RefCell::new(BodyEvent::Unasked) };
}

#[derive(Default)]
enum BodyEvent {
    /// The body was not asked for a frame.
    #[default]
    Unasked,
    /// The body gave a frame. Its call holds this permit, if any.
    Frame(Option<Arc<Permit>>),
    /// The body had no frame yet, or ended.
    Idle,
}

/// Records that the body of a response gave a frame. `permit` is the permit of its call, if the call holds one.
pub(crate) fn body_gave_frame(permit: Option<Arc<Permit>>) {
    BODY.set(BodyEvent::Frame(permit));
}

/// Records that the body of a response has no frame yet, or ended.
pub(crate) fn body_is_idle() {
    BODY.set(BodyEvent::Idle);
}

/// Watches one response. Releases its permit once it has stalled for `timeout`, and ends it once it has stalled for
/// [`END_FACTOR`] times as long.
#[derive(Debug)]
pub(crate) struct StallGuard {
    timeout: Duration,
    stall: Option<Stall>,
}

/// A response that waits for its caller.
#[derive(Debug)]
struct Stall {
    permit: Option<Arc<Permit>>,
    since: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl StallGuard {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, stall: None }
    }

    /// Polls `work`, which drives a response. Returns `None` once the response has stalled for too long. The caller
    /// must then drop `work`, which ends the response.
    pub(crate) fn poll<W: Future>(&mut self, work: Pin<&mut W>, cx: &mut Context<'_>) -> Poll<Option<W::Output>> {
        BODY.take();
        if let Poll::Ready(output) = work.poll(cx) {
            return Poll::Ready(Some(output));
        }
        match BODY.take() {
            BodyEvent::Unasked => {}
            BodyEvent::Idle => self.stall = None,
            BodyEvent::Frame(permit) => {
                let sleep = Box::pin(sleep(self.timeout));
                self.stall = Some(Stall { permit, since: Instant::now(), sleep });
            }
        }
        let Some(Stall { permit, since, sleep }) = &mut self.stall else { return Poll::Pending };
        let end = *since + self.timeout * END_FACTOR;
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= end {
                tracing::debug!(stalled = ?since.elapsed(), "ending a response of which the caller takes no bytes");
                return Poll::Ready(None);
            }
            // Releases the call's permit, although the call goes on.
            permit.take().inspect(|permit| permit.release());
            sleep.as_mut().reset(end);
        }
        Poll::Pending
    }
}

/// Spawns a task for each stream of HTTP/2 connections, under a [`StallGuard`]. If the guard ends a task, its stream is
/// reset.
#[derive(Clone, Debug)]
pub(crate) struct StreamExecutor {
    pub(crate) stall_timeout: Duration,
}

impl<S: Future<Output: Send> + Send + 'static> Executor<S> for StreamExecutor {
    fn execute(&self, stream: S) {
        let mut guard = StallGuard::new(self.stall_timeout);
        tokio::spawn(async move {
            let mut stream = pin!(stream);
            poll_fn(|cx| guard.poll(stream.as_mut(), cx)).await
        });
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tokio::time::timeout;

    use super::*;
    use crate::Readiness;
    use crate::admission::Admission;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_stalled_response_loses_its_permit_and_is_ended_later() {
        let readiness = Readiness::default();
        readiness.set_ready();
        let admission = Admission::new(readiness, 1, &[]);
        let admit = || admission.admit(&Request::get("/").body(()).unwrap());
        let mut permit = admit().unwrap();
        // Like hyper, takes a frame and then waits until the caller has room for it.
        let mut work = pin!(poll_fn(|_| {
            if let Some(permit) = permit.take() {
                body_gave_frame(Some(permit));
            }
            Poll::<()>::Pending
        }));
        let (mut guard, begun) = (StallGuard::new(TIMEOUT), Instant::now());
        let mut ended = pin!(poll_fn(|cx| guard.poll(work.as_mut(), cx)));
        assert!(timeout(TIMEOUT * 9 / 10, ended.as_mut()).await.is_err());
        assert!(admit().is_err());
        assert!(timeout(TIMEOUT, ended.as_mut()).await.is_err());
        assert!(admit().is_ok());
        assert_eq!(ended.await, None);
        assert_eq!(begun.elapsed().as_secs(), (TIMEOUT * END_FACTOR).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_waits_for_its_server_does_not_stall() {
        // Takes a frame; the next one is not ready yet.
        let mut work = pin!(poll_fn(|_| {
            body_gave_frame(None);
            body_is_idle();
            Poll::<()>::Pending
        }));
        let mut guard = StallGuard::new(TIMEOUT);
        assert!(timeout(TIMEOUT * 100, poll_fn(|cx| guard.poll(work.as_mut(), cx))).await.is_err());
    }
}
