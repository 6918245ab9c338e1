//! Loading → ready → draining. gRPC health and admission follow it.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;

use crate::Kind;

/// Where a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Loading,
    Ready,
    Draining,
}

/// A handle on whether a server takes calls; clones speak of the same server.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<State>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::Loading)))
    }
}

impl Readiness {
    /// The server takes calls from now on, unless it drains already.
    pub fn set_ready(&self) {
        self.0.send_if_modified(|state| {
            let loading = *state == State::Loading;
            if loading {
                *state = State::Ready;
            }
            loading
        });
    }

    /// UNAVAILABLE unless the server takes calls.
    pub fn check(&self) -> Result<(), Status> {
        match *self.0.borrow() {
            State::Ready => Ok(()),
            State::Loading => Err(Kind::Unavailable.status("the server is loading: try again later")),
            State::Draining => Err(Kind::Unavailable.status("the server is stopping: try another")),
        }
    }

    pub(crate) fn set_draining(&self) {
        self.0.send_replace(State::Draining);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_drains_never_becomes_ready_again() {
        let readiness = Readiness::default();
        assert!(readiness.check().unwrap_err().message().contains("loading"));
        readiness.set_ready();
        assert!(readiness.check().is_ok());
        readiness.set_draining();
        readiness.set_ready();
        assert!(readiness.check().unwrap_err().message().contains("stopping"));
    }
}
