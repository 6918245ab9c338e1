//! The tries of one call: which node said what, and which is not to be asked again.

use std::sync::Arc;
use std::time::Duration;

use c3_server::Kind;
use tonic::Status;

use super::breaker::Outcome;
use super::node::Node;
use super::{Need, probe};
use crate::error::Failure;

/// Longest wait before a full node is asked again, whatever it says: its queue may empty sooner.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);
/// Longest wait before the first retry; before each further one twice as long.
const BACKOFF: Duration = Duration::from_millis(10);
/// How many nodes may answer a call wrong or late; more of them would not do better.
const ANSWERS_MAX: usize = 4;

/// Why a call on one node failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// It answered with an error, or the connection broke.
    Status(Status),
    /// Its answer contradicts the request.
    Wrong(String),
    /// Its answer contradicts that of a node of the other stage: either may be wrong.
    Disputed(String),
    /// No answer in time.
    Late,
    /// The node stopped answering its probes while the call was in flight.
    Lost,
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The tries of one call.
#[derive(Default)]
pub(super) struct Tries {
    /// Who failed, and what each said.
    pub(super) failed: Vec<(Arc<Node>, String)>,
    /// How many of them did not answer in time.
    pub(super) late: usize,
    /// Who answered wrong or late, and is not to be asked again.
    spent: Vec<Arc<Node>>,
    /// Full when asked, since the last pause, and when to ask again.
    pub(super) full: Vec<(Arc<Node>, Duration)>,
}

impl Tries {
    /// Whether no node is to be asked any more. Nodes that died say little of the call.
    pub(super) fn are_used_up(&self, tries_max: usize) -> bool {
        self.failed.len() >= tries_max || self.spent.len() >= ANSWERS_MAX
    }

    /// Whether it is not to be asked now.
    pub(super) fn rule_out(&self, node: &Arc<Node>) -> bool {
        let full = self.full.iter().map(|(full, _)| full);
        self.spent.iter().chain(full).any(|out| Arc::ptr_eq(out, node))
    }

    /// Every node that is left is full: waits until the first of them asked to be asked again.
    pub(super) async fn pause(&mut self) {
        let soonest = self.full.drain(..).map(|(_, after)| after).min().unwrap_or_default();
        tokio::time::sleep(soonest.min(RETRY_AFTER_MAX)).await;
    }

    /// Waits a little before a retry, so that the calls that a dead node leaves behind do not come at one instant.
    pub(super) async fn back_off(&self) {
        let most = BACKOFF * (1 << self.failed.len().min(5));
        tokio::time::sleep(most.mul_f64(fastrand::f64())).await;
    }

    /// Takes note of a fault; errors where no other node would do better.
    pub(super) fn failed_on(
        &mut self,
        need: &Need<'_>,
        node: Arc<Node>,
        fault: Fault,
    ) -> Result<(), Failure> {
        let said = match &fault {
            Fault::Status(status) => probe::reason(status),
            Fault::Wrong(problem) | Fault::Disputed(problem) => problem.clone(),
            Fault::Late => "no answer in time".to_owned(),
            Fault::Lost => "it stopped answering".to_owned(),
        };
        tracing::info!(stage = %need.stage, address = node.address, said, "a call failed on a node");
        match (fault.kind(), &fault) {
            (Kind::Full { retry_after_ms }, _) => {
                self.full.push((node, Duration::from_millis(retry_after_ms)));
                return Ok(());
            }
            (kind @ (Kind::InvalidInput | Kind::WrongModel), _) => {
                return Err(Failure::Refused { kind, message: said });
            }
            // It is left out until it answers again, and may then be tried again.
            (Kind::Unavailable, Fault::Status(status)) => node.call_failed(probe::condition_of(status)),
            (Kind::Unavailable, _) => {}
            (kind, _) => {
                self.late += usize::from(kind == Kind::Late);
                self.spent.push(Arc::clone(&node));
            }
        }
        self.failed.push((node, said));
        Ok(())
    }
}

impl Fault {
    /// What can be done about it.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Status(status) => Kind::of(status),
            Self::Wrong(_) | Self::Disputed(_) => Kind::Internal,
            Self::Late => Kind::Late,
            Self::Lost => Kind::Unavailable,
        }
    }

    /// What it says of the node to its breaker. A node that does not answer at all is the registry's.
    pub(super) fn outcome(&self) -> Outcome {
        match self.kind() {
            Kind::Internal | Kind::Late | Kind::DataLoss => Outcome::Failed,
            _ => Outcome::Neither,
        }
    }
}

#[cfg(test)]
mod tests {
    use c3_proto::{Fingerprint, Stage};

    use super::*;

    #[tokio::test]
    async fn a_call_outlives_more_nodes_that_die_than_nodes_that_answer_wrong() {
        let used_up_after = |tries_max: usize, fault: fn() -> Fault| {
            let fingerprint = Fingerprint::of(b"a model");
            let need = Need { stage: Stage::Decoder, fingerprint, arithmetic: None, avoid: &[] };
            let mut tries = Tries::default();
            for port in 1.. {
                let address = format!("127.0.0.1:{port}");
                let node = Arc::new(Node::new(need.stage, &address, Arc::default()).unwrap());
                tries.failed_on(&need, node, fault()).unwrap();
                if tries.are_used_up(tries_max) {
                    return port;
                }
            }
            unreachable!("there is a bound");
        };
        let died: fn() -> Fault = || Fault::Status(Status::unavailable("it died"));
        assert_eq!(used_up_after(8, died), 8);
        assert_eq!(used_up_after(8, || Fault::Lost), 8);
        assert_eq!(used_up_after(8, || Fault::Wrong("a hash differs".to_owned())), ANSWERS_MAX);
        assert_eq!(used_up_after(8, || Fault::Late), ANSWERS_MAX);
        assert_eq!(used_up_after(1, died), 1);
    }
}
