//! Dispatch of one call: picks a node and calls it. Retries a failed call, on another node if possible.

use std::sync::Arc;

use c3_server::error::code_name;
use tokio::time::{Instant, timeout};
use tonic::Code;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::backlog::{Demand, Phase};
use crate::balance;
use crate::breaker::CallOutcome;
use crate::error::Error;
use crate::metrics::EndedCall;
use crate::node::{InFlightGuard, Node, NodeSelector};
use crate::retry::{AttemptError, Attempts, RETRY_AFTER_MAX};
use crate::router::Router;
use crate::stage_client::StageResponse;

/// Maximum fraction of the matching nodes that may be ejected at once. Above it, ejections are ignored (panic
/// threshold): many ejections at once are more likely caused by bad calls or overload than by bad nodes.
const EJECTED_MAX: f64 = 0.5;

/// Result of the search for a node.
enum Selection {
    Acquired(InFlightGuard),
    /// Every node that [`keep_preferred`] left has too many calls in flight.
    Full,
    /// The selector or earlier attempts exclude every matching node, or all nodes serve another model.
    Exhausted,
    /// No node matches yet.
    NoMatch,
}

impl Router {
    /// Calls matching nodes one after another until one answers. Fails once a node rejects the request, no node is
    /// left, or the attempts or the retry budget run out. If nodes report full queues, retries until `call_timeout` has
    /// passed since the start of the call. `tokens` is the size of the call in text tokens. `attempt` may run several
    /// times, because stage calls are idempotent. Dropping the future cancels the attempt.
    pub(crate) async fn call<T, F>(
        &self,
        selector: NodeSelector<'_>,
        method: &'static str,
        tokens: u64,
        attempt: impl Fn(Arc<Node>) -> F,
    ) -> Result<StageResponse<T>, Error>
    where
        F: Future<Output = Result<T, AttemptError>>,
    {
        self.budget.deposit();
        let (begun, mut attempts) = (Instant::now(), Attempts::default());
        let (stage, fingerprint, phase) = (selector.stage, selector.fingerprint, Phase::Waiting);
        let demand = Demand { stage, fingerprint, method, phase };
        let mut waiting = Some((begun, self.waiting.hold(demand, tokens)));
        let mut retry_after = None;
        loop {
            let guard = match self.select(&selector, tokens, &attempts).await {
                Selection::Acquired(guard) => guard,
                _ if !attempts.saw_full_node() => return Err(self.call_error(&selector, &attempts)),
                _ if begun.elapsed() > self.config.call_timeout => {
                    let retry_after_ms = RETRY_AFTER_MAX.as_millis() as u64;
                    return Err(Error::NodesFull { stage: selector.stage, retry_after_ms });
                }
                _ => {
                    waiting.get_or_insert_with(|| (Instant::now(), self.waiting.hold(demand, tokens)));
                    attempts.wait_for_full_node().await;
                    continue;
                }
            };
            if let Some((since, _)) = waiting.take() {
                self.metrics.node_wait(method, since.elapsed());
            }
            if let Some(reason) = retry_after.take() {
                self.metrics.retry(selector.stage, reason);
            }
            let result = self.attempt(method, &guard, &attempt).await;
            let (node, latency) = (Arc::clone(guard.node()), guard.elapsed());
            let error = match result {
                Ok(value) => {
                    guard.finish(CallOutcome::Answered);
                    return Ok(StageResponse { value, node, latency });
                }
                Err(error) => error,
            };
            guard.finish(error.outcome());
            retry_after = Some(error.kind());
            if let AttemptError::WrongAnswer(problem) = &error {
                node.eject(problem);
            }
            if attempts.record(selector.stage, node, error)? {
                if attempts.are_exhausted(self.config.attempts_max) || !self.budget.withdraw() {
                    return Err(self.call_error(&selector, &attempts));
                }
                attempts.back_off().await;
            }
        }
    }

    /// Calls the guard's node once. Fails on an error, if the node is lost, or after `call_timeout` without an answer.
    async fn attempt<T, F>(
        &self,
        method: &'static str,
        guard: &InFlightGuard,
        attempt: &impl Fn(Arc<Node>) -> F,
    ) -> Result<T, AttemptError>
    where
        F: Future<Output = Result<T, AttemptError>>,
    {
        let node = guard.node();
        let span = client_span(node, method);
        let answer = timeout(self.config.call_timeout, attempt(Arc::clone(node))).instrument(span.clone());
        let result = tokio::select! {
            answer = answer => answer.unwrap_or(Err(AttemptError::Timeout)),
            () = node.lost() => Err(AttemptError::NodeLost),
        };
        let error = result.as_ref().err().map(AttemptError::kind);
        let code = match &result {
            Ok(_) => Some(Code::Ok),
            Err(AttemptError::Status(status)) => Some(status.code()),
            Err(_) => None,
        };
        self.metrics.node_call(EndedCall { node, method, duration: guard.elapsed(), code, error });
        if let Some(code) = code {
            span.record("rpc.response.status_code", code_name(code));
        }
        if let Some(kind) = error {
            span.record("otel.status_code", "ERROR").record("error.type", kind.as_str());
        }
        result
    }

    /// Acquires a lightly loaded matching node. Waits without limit while every preferred node has too many calls in
    /// flight, and up to `node_wait` while no node matches. Returns [`Selection::Exhausted`] without waiting.
    async fn select(&self, selector: &NodeSelector<'_>, tokens: u64, attempts: &Attempts) -> Selection {
        loop {
            let mut selection = Selection::NoMatch;
            let look = || {
                selection = self.try_select(selector, tokens, attempts);
                matches!(selection, Selection::Acquired(_) | Selection::Exhausted).then_some(())
            };
            let found = self.registry.wait_for(self.wait_deadline(), look).await;
            if found.is_some() || !matches!(selection, Selection::Full) {
                return selection;
            }
        }
    }

    fn try_select(&self, selector: &NodeSelector<'_>, tokens: u64, attempts: &Attempts) -> Selection {
        let matching = Vec::from_iter(self.registry.stage(selector.stage).filter(|node| selector.matches(node)));
        if matching.is_empty() && !self.all_serve_another_model(selector) {
            return Selection::NoMatch;
        }
        let ejected = matching.iter().filter(|node| node.is_ejected()).count();
        let ejections = match ejected as f64 <= EJECTED_MAX * matching.len() as f64 {
            true => Ejections::Respected,
            false => Ejections::Ignored,
        };
        let left = matching.iter().filter(|node| !selector.excludes(node) && !attempts.excludes(node));
        let mut left = Vec::from_iter(left.cloned());
        if left.is_empty() {
            return Selection::Exhausted;
        }
        keep_preferred(&mut left, &attempts.failed, ejections);
        loop {
            let loads = Vec::from_iter(left.iter().map(|node| node.load()));
            let Some(picked) = balance::pick(&loads, |below| fastrand::usize(..below)) else {
                return Selection::Full;
            };
            let calls_max = self.config.node_calls_max.unwrap_or_else(|| left[picked].calls_to_saturate());
            match left[picked].acquire(tokens, calls_max, &matching) {
                Some(guard) => return Selection::Acquired(guard),
                None => left.remove(picked),
            };
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ejections {
    Respected,
    /// More nodes are ejected than [`EJECTED_MAX`] permits.
    Ignored,
}

/// Removes the nodes that failed this call, then the nodes whose circuit breaker admits no call now. Skips a step that
/// would remove all remaining nodes, and the second step if `ejections` are ignored. Failed nodes are removed first
/// because they may be dead. An ejected node still answers, though slowly or wrongly.
fn keep_preferred(nodes: &mut Vec<Arc<Node>>, failed: &[(Arc<Node>, String)], ejections: Ejections) {
    let untried = |node: &Arc<Node>| failed.iter().all(|(failed, _)| !Arc::ptr_eq(failed, node));
    if nodes.iter().any(untried) {
        nodes.retain(untried);
    }
    if ejections == Ejections::Respected && nodes.iter().any(|node| node.admits()) {
        nodes.retain(|node| node.admits());
    }
}

/// Returns a client span that follows OpenTelemetry's semantic conventions for gRPC.
fn client_span(node: &Node, method: &'static str) -> Span {
    let (method, (host, port)) = (format!("{}/{method}", node.service()), node.host_and_port());
    tracing::info_span!(
        "call",
        otel.name = method,
        otel.kind = "client",
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = Empty,
        "error.type" = Empty,
        server.address = host,
        server.port = port,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ejected_node_is_preferred_to_one_that_failed_the_call() {
        let node = |port| Arc::new(Node::test_decoder(&format!("127.0.0.1:{port}")));
        let all = [node(1), node(2), node(3)];
        all[2].eject("it takes far longer than its peers");
        let mut failed = Vec::new();
        let mut preferred = |fails: Option<usize>| {
            failed.extend(fails.map(|index| (Arc::clone(&all[index]), "it died".to_owned())));
            let mut nodes = all.to_vec();
            keep_preferred(&mut nodes, &failed, Ejections::Respected);
            let index = |node: &Arc<Node>| all.iter().position(|other| Arc::ptr_eq(other, node));
            Vec::from_iter(nodes.iter().filter_map(index))
        };
        assert_eq!(preferred(None), [0, 1]);
        assert_eq!(preferred(Some(0)), [1]);
        assert_eq!(preferred(Some(1)), [2]);
        assert_eq!(preferred(Some(2)), [0, 1]);
    }
}
