//! Lifecycle of a server: loading → ready ⇄ stalled → shutdown announced → draining → ended. gRPC health and admission
//! follow the phase.

use std::sync::Arc;

use tokio::sync::watch;

use crate::rejection::Rejection;

/// Phase of a server's lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Loading,
    Ready,
    /// The device that computes the model hangs: new calls are refused and calls in flight are ended with an error.
    Stalled,
    /// Health and probes report the shutdown. Calls are still served, because some callers may not know yet.
    ShutdownAnnounced,
    /// New calls are refused and calls in flight continue.
    Draining,
    /// The drain timeout passed: calls in flight are ended with an error.
    Ended,
}

/// A handle on the phase of a server; clones share the phase.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<Phase>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Loading)))
    }
}

impl Readiness {
    /// Starts serving calls. Does nothing unless the server is loading.
    pub fn set_ready(&self) {
        self.replace(Phase::Loading, Phase::Ready);
    }

    /// Refuses calls and ends those in flight, because the device hangs. Does nothing unless the server is ready.
    pub fn set_stalled(&self) {
        self.replace(Phase::Ready, Phase::Stalled);
    }

    /// Serves calls again after [`Readiness::set_stalled`]. Does nothing unless the server is stalled.
    pub fn set_recovered(&self) {
        self.replace(Phase::Stalled, Phase::Ready);
    }

    fn replace(&self, from: Phase, to: Phase) {
        self.0.send_if_modified(|phase| {
            let changes = *phase == from;
            if changes {
                *phase = to;
            }
            changes
        });
    }

    /// Fails if load balancers should use other servers: when [`Self::check`] fails, and also once a shutdown is
    /// announced.
    pub(crate) fn check_probe(&self) -> Result<(), Rejection> {
        match *self.0.borrow() {
            Phase::ShutdownAnnounced => Err(Rejection::Stopping),
            _ => self.check(),
        }
    }

    /// Fails unless the server accepts new calls.
    pub(crate) fn check(&self) -> Result<(), Rejection> {
        match *self.0.borrow() {
            Phase::Ready | Phase::ShutdownAnnounced => Ok(()),
            Phase::Stalled => Err(Rejection::Stalled),
            Phase::Loading => Err(Rejection::Loading),
            Phase::Draining | Phase::Ended => Err(Rejection::Stopping),
        }
    }

    pub(crate) fn set_shutdown_announced(&self) {
        self.0.send_replace(Phase::ShutdownAnnounced);
    }

    pub(crate) fn set_draining(&self) {
        self.0.send_replace(Phase::Draining);
    }

    pub(crate) fn set_ended(&self) {
        self.0.send_replace(Phase::Ended);
    }

    /// Waits until calls in flight must be ended early, and returns the reason.
    pub(crate) async fn revoked(self) -> Rejection {
        let mut phases = self.0.subscribe();
        let ends_calls = |phase: &Phase| matches!(phase, Phase::Stalled | Phase::Ended);
        // Cannot fail: `self` keeps the sender alive.
        let phase = phases.wait_for(ends_calls).await.map_or(Phase::Ended, |phase| *phase);
        if phase == Phase::Stalled { Rejection::Stalled } else { Rejection::Stopping }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_drains_never_becomes_ready_again() {
        let readiness = Readiness::default();
        assert_eq!(readiness.check(), Err(Rejection::Loading));
        readiness.set_ready();
        assert_eq!(readiness.check(), Ok(()));
        readiness.set_shutdown_announced();
        assert!(readiness.check().is_ok() && readiness.check_probe().is_err());
        readiness.set_draining();
        readiness.set_ready();
        readiness.set_recovered();
        assert_eq!(readiness.check(), Err(Rejection::Stopping));
    }

    #[tokio::test]
    async fn a_stalled_server_ends_its_calls_and_serves_again_once_it_recovers() {
        let readiness = Readiness::default();
        readiness.set_ready();
        let in_flight = tokio::spawn(readiness.clone().revoked());
        readiness.set_stalled();
        assert_eq!(in_flight.await.unwrap(), Rejection::Stalled);
        assert!(readiness.check().is_err());
        readiness.set_recovered();
        assert!(readiness.check().is_ok());
    }
}
