//! Failed attempts of one call: the nodes, their errors, and the nodes that the next attempt must not use.

use std::sync::Arc;
use std::time::Duration;

use c3_server::ErrorKind;
use c3_tls::explain_status;
use c3_types::Stage;
use tonic::Status;

use crate::breaker::CallOutcome;
use crate::error::Error;
use crate::health;
use crate::node::Node;

/// Maximum pause before a full node is called again, even if the node asks for a longer one: its queue may have room
/// sooner.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);
/// Base of the backoff. The pause before retry N is uniformly random between zero and this × 2^min(N, 5).
const BACKOFF: Duration = Duration::from_millis(10);
/// Number of excluded nodes at which the call fails. If several nodes return errors, answer wrongly or time out, the
/// call itself is probably at fault. Nodes that die are not excluded, because their death does not suggest this.
const EXCLUDED_MAX: usize = 4;

/// Reason that one attempt failed.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// The node answered with an error, or the connection broke.
    Status(Status),
    /// The answer contradicts the request. The node is ejected.
    WrongAnswer(String),
    /// The answer contradicts an answer of the other stage. Either node may be wrong, so neither is ejected.
    Disputed(String),
    /// The call timeout passed.
    Timeout,
    /// The node stopped answering health checks during the call.
    NodeLost,
}

impl From<Status> for AttemptError {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// Failed attempts of one call.
#[derive(Default)]
pub(crate) struct Attempts {
    /// Nodes that failed, each with its error, oldest failure first.
    pub(crate) failed: Vec<(Arc<Node>, String)>,
    timeouts: usize,
    /// Nodes that this call must not use again. They timed out, answered wrongly, or returned an error other than
    /// UNAVAILABLE and RESOURCE_EXHAUSTED.
    excluded: Vec<Arc<Node>>,
    /// Nodes that refused the call as full since the last pause, each with the retry delay that the node asked for.
    full: Vec<(Arc<Node>, Duration)>,
}

impl Attempts {
    /// Returns whether the call must end: `attempts_max` attempts failed, or [`EXCLUDED_MAX`] nodes are excluded.
    pub(crate) fn are_exhausted(&self, attempts_max: usize) -> bool {
        self.failed.len() >= attempts_max || self.excluded.len() >= EXCLUDED_MAX
    }

    /// Returns whether at least one attempt failed and all of them timed out.
    pub(crate) fn all_timed_out(&self) -> bool {
        self.timeouts > 0 && self.timeouts == self.failed.len()
    }

    /// Returns whether the next attempt must not use this node.
    pub(crate) fn excludes(&self, node: &Arc<Node>) -> bool {
        let full = self.full.iter().map(|(full, _)| full);
        self.excluded.iter().chain(full).any(|excluded| Arc::ptr_eq(excluded, node))
    }

    /// Returns whether a node was full since the last pause.
    pub(crate) fn saw_full_node(&self) -> bool {
        !self.full.is_empty()
    }

    /// Waits for the shortest delay that a full node asked for, at most [`RETRY_AFTER_MAX`]. Afterwards, the next
    /// attempt may use the full nodes again.
    pub(crate) async fn wait_for_full_node(&mut self) {
        let soonest = self.full.drain(..).map(|(_, after)| after).min().unwrap_or_default();
        tokio::time::sleep(soonest.min(RETRY_AFTER_MAX)).await;
    }

    /// Waits before a retry: exponential backoff with full jitter. When a node dies, its calls are therefore not all
    /// retried at once.
    pub(crate) async fn back_off(&self) {
        let most = BACKOFF * (1 << self.failed.len().min(5));
        tokio::time::sleep(most.mul_f64(fastrand::f64())).await;
    }

    /// Records a failed attempt. Returns `false` if the node was full, which does not count as a failure. Errors:
    /// [`Error::Rejected`] if the request itself is wrong, so that no node would accept it.
    pub(crate) fn record(&mut self, stage: Stage, node: Arc<Node>, attempt: AttemptError) -> Result<bool, Error> {
        let error = match &attempt {
            AttemptError::Status(status) => explain_status(status),
            AttemptError::WrongAnswer(problem) | AttemptError::Disputed(problem) => problem.clone(),
            AttemptError::Timeout => "no answer in time".to_owned(),
            AttemptError::NodeLost => "it stopped answering".to_owned(),
        };
        let kind = attempt.kind().as_str();
        if let Some(suppressed) = node.failure_lines.permit(kind) {
            tracing::info!(%stage, address = node.address, kind, error, suppressed, "stage call failed on a node");
        }
        match (attempt.kind(), &attempt) {
            (ErrorKind::Overloaded { retry_after_ms }, _) => {
                self.full.push((node, Duration::from_millis(retry_after_ms)));
                return Ok(false);
            }
            (kind @ (ErrorKind::InvalidArgument | ErrorKind::WrongModel), _) => {
                return Err(Error::Rejected { kind, message: error });
            }
            // The node may be called again once it passes a health check.
            (ErrorKind::Unavailable, AttemptError::Status(status)) => {
                node.record_unavailable(health::from_status(status));
            }
            (ErrorKind::Unavailable, _) => {}
            (kind, _) => {
                self.timeouts += usize::from(kind == ErrorKind::DeadlineExceeded);
                self.excluded.push(Arc::clone(&node));
            }
        }
        self.failed.push((node, error));
        Ok(true)
    }
}

impl AttemptError {
    /// Returns the kind, which decides whether the call is retried.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Status(status) => ErrorKind::from_status(status),
            Self::WrongAnswer(_) | Self::Disputed(_) => ErrorKind::Internal,
            Self::Timeout => ErrorKind::DeadlineExceeded,
            Self::NodeLost => ErrorKind::Unavailable,
        }
    }

    /// Returns the outcome for the circuit breaker. The breaker ignores a call to an unavailable node, because the
    /// health checks exclude that node.
    pub(crate) fn outcome(&self) -> CallOutcome {
        match self.kind() {
            ErrorKind::Internal | ErrorKind::DeadlineExceeded | ErrorKind::DataLoss => CallOutcome::Failed,
            _ => CallOutcome::Ignored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_nodes_may_die_under_a_call_than_may_answer_it_wrong() {
        let exhausted_after = |attempts_max: usize, error: fn() -> AttemptError| {
            let mut attempts = Attempts::default();
            for port in 1.. {
                let address = format!("127.0.0.1:{port}");
                let node = Arc::new(Node::test_decoder(&address));
                attempts.record(Stage::Decoder, node, error()).unwrap();
                if attempts.are_exhausted(attempts_max) {
                    return port;
                }
            }
            unreachable!("the loop returns");
        };
        let died: fn() -> AttemptError = || AttemptError::Status(Status::unavailable("it died"));
        assert_eq!(exhausted_after(8, died), 8);
        assert_eq!(exhausted_after(8, || AttemptError::NodeLost), 8);
        assert_eq!(exhausted_after(8, || AttemptError::WrongAnswer("a hash differs".to_owned())), EXCLUDED_MAX);
        assert_eq!(exhausted_after(8, || AttemptError::Timeout), EXCLUDED_MAX);
        assert_eq!(exhausted_after(1, died), 1);
    }
}
