//! Who is admitted: nobody before the server is ready or while it drains, and a bounded number at once.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::{Kind, Readiness};

/// What a caller that finds all places taken waits before it tries again.
const RETRY_AFTER_MS: u64 = 1000;

/// Who may come in.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    readiness: Readiness,
    calls: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new(readiness: Readiness, calls_max: usize) -> Self {
        Self { readiness, calls: Arc::new(Semaphore::new(calls_max)) }
    }

    /// A place for a call, where it needs one, or why there is none.
    pub(crate) fn admit(&self, path: &str) -> Result<Option<Place>, Status> {
        // Cheap, and how a caller learns that a node is busy or about to stop: never refused for being busy.
        if path.ends_with("/Describe") {
            return self.readiness.check_for_more().map(|()| None);
        }
        self.readiness.check()?;
        let place = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| {
            Kind::Full { retry_after_ms: RETRY_AFTER_MS }
                .status("all of the server's places for calls are taken: try again later")
        })?;
        Ok(Some(Place { _place: place, stalled: Box::pin(self.readiness.clone().stalled()) }))
    }
}

/// A call's place, which it loses where the server stalls.
pub(crate) struct Place {
    _place: OwnedSemaphorePermit,
    stalled: Pin<Box<dyn Future<Output = Status> + Send>>,
}

impl Place {
    pub(crate) fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        self.stalled.as_mut().poll(cx)
    }
}
