//! Dispatch of one call: picks a node, calls it, and tries another node when the call fails.

use std::sync::Arc;

use c3_proto::Stage;
use tokio::time::{Instant, timeout};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::breaker::Outcome;
use super::node::{Lease, Node};
use super::tries::{Fault, RETRY_AFTER_MAX, Tries};
use super::{Answer, Need, Nodes, balance};
use crate::error::Failure;

/// Share of the nodes that fit which breakers may leave out; where they would leave out more, none counts: what looks
/// like many bad nodes is rather a bad call, or too much load.
const EJECTED_MAX: f64 = 0.5;

/// What there is for a call now.
enum Seat {
    Taken(Lease),
    /// Nodes that fit have no place.
    Full,
    /// All nodes that fit were asked.
    Spent,
    /// No node that fits takes calls.
    Nobody,
}

impl Nodes {
    /// Calls nodes that fit, one after another, until one answers. Calls are idempotent: they change nothing on a node.
    pub(super) async fn call<T, F>(
        &self,
        need: Need<'_>,
        method: &'static str,
        tokens: u64,
        ask: impl Fn(Arc<Node>) -> F,
    ) -> Result<Answer<T>, Failure>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        self.budget.earn();
        let (begun, mut tries) = (Instant::now(), Tries::default());
        let mut waiting = Some(self.waiting.hold(tokens));
        loop {
            let lease = match self.seat(&need, tokens, &tries).await {
                Seat::Taken(lease) => lease,
                _ if tries.full.is_empty() => return Err(self.nobody_fits(&need, &tries)),
                _ if begun.elapsed() > self.settings.call_timeout => {
                    let retry_after_ms = RETRY_AFTER_MAX.as_millis() as u64;
                    return Err(Failure::Full { stage: need.stage, retry_after_ms });
                }
                _ => {
                    waiting.get_or_insert_with(|| self.waiting.hold(tokens));
                    tries.pause().await;
                    continue;
                }
            };
            waiting = None;
            let answer = self.ask(method, &lease, &ask).await;
            let (node, took) = (Arc::clone(lease.node()), lease.took());
            let fault = match answer {
                Ok(value) => {
                    lease.end(Outcome::Answered);
                    return Ok(Answer { value, node, took });
                }
                Err(fault) => fault,
            };
            lease.end(fault.outcome());
            if let Fault::Wrong(problem) = &fault {
                node.eject(problem);
            }
            let known = tries.failed.len();
            tries.failed_on(&need, node, fault)?;
            if tries.failed.len() > known {
                if tries.are_used_up(self.settings.tries_max) || !self.budget.take_retry() {
                    return Err(self.nobody_fits(&need, &tries));
                }
                tries.back_off().await;
            }
        }
    }

    /// Calls one node, until it answers, the call's timeout passes, or the node's probes fail.
    async fn ask<T, F>(
        &self,
        method: &'static str,
        lease: &Lease,
        ask: &impl Fn(Arc<Node>) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let node = lease.node();
        let span = call_span(node.stage, method, &node.address);
        let answer = timeout(self.settings.call_timeout, ask(Arc::clone(node))).instrument(span.clone());
        let answer = tokio::select! {
            answer = answer => answer.unwrap_or(Err(Fault::Late)),
            () = node.lost() => Err(Fault::Lost),
        };
        self.metrics.node_call(node.stage, method, answer.as_ref().err().map(Fault::kind));
        if let Err(fault) = &answer {
            record(&span, fault);
        }
        answer
    }

    /// A place on a node that fits, one with little work; waits while all of them have their hands full.
    async fn seat(&self, need: &Need<'_>, tokens: u64, tries: &Tries) -> Seat {
        loop {
            let mut seat = Seat::Nobody;
            let look = || {
                seat = self.look_for_seat(need, tokens, tries);
                matches!(seat, Seat::Taken(_) | Seat::Spent).then_some(())
            };
            let found = self.registry.wait_for(self.wait_deadline(), look).await;
            if found.is_some() || !matches!(seat, Seat::Full) {
                return seat;
            }
        }
    }

    fn look_for_seat(&self, need: &Need<'_>, tokens: u64, tries: &Tries) -> Seat {
        let fitting = Vec::from_iter(self.registry.stage(need.stage).filter(|node| need.fits(node)));
        if fitting.is_empty() && !self.all_are_of_other_models(need) {
            return Seat::Nobody;
        }
        let ejected = fitting.iter().filter(|node| node.is_ejected()).count();
        let breakers_count = ejected as f64 <= EJECTED_MAX * fitting.len() as f64;
        let left = fitting.iter().filter(|node| !need.avoids(node) && !tries.rule_out(node));
        let mut left = Vec::from_iter(left.cloned());
        if left.is_empty() {
            return Seat::Spent;
        }
        prefer(&mut left, &tries.failed, breakers_count);
        loop {
            let loads = Vec::from_iter(left.iter().map(|node| node.load()));
            let Some(picked) = balance::pick(&loads, |below| fastrand::usize(..below)) else {
                return Seat::Full;
            };
            match left[picked].lease(tokens, self.settings.calls_max, &fitting) {
                Some(lease) => return Seat::Taken(lease),
                None => left.remove(picked),
            };
        }
    }
}

/// Keeps the nodes that are asked first: whom the call has not failed on, and of them who is not left out for a while. A
/// node that the call failed on may have died, or be hit again; one that is slow, or was wrong once, is better than that.
fn prefer(nodes: &mut Vec<Arc<Node>>, failed: &[(Arc<Node>, String)], breakers_count: bool) {
    let unfailed = |node: &Arc<Node>| failed.iter().all(|(failed, _)| !Arc::ptr_eq(failed, node));
    if nodes.iter().any(unfailed) {
        nodes.retain(unfailed);
    }
    if breakers_count && nodes.iter().any(|node| node.admits()) {
        nodes.retain(|node| node.admits());
    }
}

/// OpenTelemetry's names for client spans of gRPC.
fn call_span(stage: Stage, method: &'static str, address: &str) -> Span {
    let service = match stage {
        Stage::Compressor => "c3.v1.Compressor",
        Stage::Decoder => "c3.v1.Decoder",
    };
    tracing::info_span!(
        "call",
        otel.name = format!("{service}/{method}"),
        otel.kind = "client",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = Empty,
        server.address = address,
    )
}

fn record(span: &Span, fault: &Fault) {
    span.record("otel.status_code", "ERROR");
    if let Fault::Status(status) = fault {
        span.record("rpc.grpc.status_code", status.code() as i32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_that_is_left_out_is_asked_before_one_that_the_call_failed_on() {
        let node =
            |port| Arc::new(Node::new(Stage::Decoder, &format!("127.0.0.1:{port}"), Arc::default()).unwrap());
        let all = [node(1), node(2), node(3)];
        all[2].eject("it takes far longer than the others");
        let mut failed = Vec::new();
        let mut preferred = |also: Option<usize>| {
            failed.extend(also.map(|number| (Arc::clone(&all[number]), "it died".to_owned())));
            let mut nodes = all.to_vec();
            prefer(&mut nodes, &failed, true);
            let place = |node: &Arc<Node>| all.iter().position(|other| Arc::ptr_eq(other, node));
            Vec::from_iter(nodes.iter().filter_map(place))
        };
        assert_eq!(preferred(None), [0, 1]);
        assert_eq!(preferred(Some(0)), [1]);
        assert_eq!(preferred(Some(1)), [2]);
        assert_eq!(preferred(Some(2)), [0, 1]);
    }
}
