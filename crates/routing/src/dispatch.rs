//! One call: asked of a node that fits, again of another where it fails, and of a second one beside where it is late.

use std::sync::Arc;

use c3_proto::Stage;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout};
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

/// What a call costs a node, as far as is known before it is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Text tokens, near enough for balancing.
    pub(super) tokens: u64,
    /// Hardly more than these: what takes long for them is late.
    pub(super) tokens_max: u64,
}

impl Size {
    /// Of a call whose tokens are counted.
    pub(super) fn of(tokens: u64) -> Self {
        Self { tokens, tokens_max: tokens }
    }
}

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
    /// Asks nodes that fit until one answers: one after another, and a second beside one that is late. `cost` is what an
    /// answer tells of the call's size, in text tokens. All that is asked may be asked twice: nothing on a node changes by
    /// it.
    pub(super) async fn call<T, F>(
        &self,
        need: Need<'_>,
        method: &'static str,
        size: Size,
        cost: impl Fn(&T) -> u64,
        ask: impl Fn(Arc<Node>) -> F,
    ) -> Result<Answer<T>, Failure>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        self.budget.earn();
        let tokens = size.tokens;
        let usual = self.paces.get(method).and_then(|paces| paces.late_after(size.tokens_max));
        let mut late_after = usual;
        let (begun, mut tries) = (Instant::now(), Tries::default());
        let mut asked = FuturesUnordered::new();
        let mut waiting = Some(self.waiting.hold(tokens));
        let mut may_hedge = self.settings.tries_max > 1 && usual.is_some();
        loop {
            if asked.is_empty() {
                let again = !tries.failed.is_empty();
                if tries.are_used_up(self.settings.tries_max) || (again && !self.budget.take_retry()) {
                    return Err(self.nobody_fits(&need, &tries));
                }
                match self.seat(&need, tokens, &tries).await {
                    Seat::Taken(mut lease) => {
                        waiting = None;
                        late_after = lease.late_after(usual);
                        tries.asked.push(Arc::clone(lease.node()));
                        asked.push(self.ask(method, lease, &ask));
                    }
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
                }
            }
            let late = sleep(late_after.unwrap_or_default());
            let (lease, answer) = tokio::select! {
                Some(ended) = asked.next() => ended,
                () = late, if may_hedge => {
                    may_hedge = false;
                    if let Some(lease) = self.seat_beside(&need, tokens, &tries) {
                        tries.asked.push(Arc::clone(lease.node()));
                        asked.push(self.ask(method, lease, &ask));
                    }
                    continue;
                }
            };
            let (node, took) = (Arc::clone(lease.node()), lease.took());
            tries.asked.retain(|asked| !Arc::ptr_eq(asked, &node));
            match answer {
                Ok(value) => {
                    lease.end(Outcome::Answered);
                    // Who was late and is beaten counts as slow from here on.
                    drop(asked);
                    self.paces.entry(method).or_default().add(cost(&value), took);
                    self.eject_slow(&need);
                    return Ok(Answer { value, node, took });
                }
                Err(fault) => {
                    lease.end(fault.outcome());
                    if let Fault::Wrong(problem) = &fault {
                        node.eject(problem);
                    }
                    let known = tries.failed.len();
                    tries.failed_on(&need, node, fault)?;
                    if tries.failed.len() > known && asked.is_empty() {
                        tries.back_off().await;
                    }
                }
            }
        }
    }

    /// Asks one node. A call that is dropped was answered by another node first.
    async fn ask<T, F>(
        &self,
        method: &'static str,
        lease: Lease,
        ask: &impl Fn(Arc<Node>) -> F,
    ) -> (Lease, Result<T, Fault>)
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let node = Arc::clone(lease.node());
        let span = call_span(node.stage, method, &node.address);
        let answer = timeout(self.settings.call_timeout, ask(Arc::clone(&node))).instrument(span.clone());
        let answer = tokio::select! {
            answer = answer => answer.unwrap_or(Err(Fault::Late)),
            () = node.lost() => Err(Fault::Lost),
        };
        self.metrics.node_call(node.stage, method, answer.as_ref().err().map(Fault::kind));
        if let Err(fault) = &answer {
            record(&span, fault);
        }
        (lease, answer)
    }

    /// A place for a second try beside one that is late: only on another node, only where one is free at once, and only
    /// within the budget.
    fn seat_beside(&self, need: &Need<'_>, tokens: u64, tries: &Tries) -> Option<Lease> {
        match self.look_for_seat(need, tokens, tries) {
            Seat::Taken(lease) if self.budget.take_hedge() => Some(lease),
            _ => None,
        }
    }

    /// Leaves out nodes that are far slower than the others that fit.
    fn eject_slow(&self, need: &Need<'_>) {
        let fitting = Vec::from_iter(self.registry.stage(need.stage).filter(|node| need.fits(node)));
        for node in fitting.iter().filter(|node| !node.is_ejected()) {
            let others = fitting.iter().filter(|other| !Arc::ptr_eq(other, node));
            if node.is_slow(others.map(|other| other.pace())) {
                node.eject("it takes far longer than the others");
            }
        }
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
        let left = fitting.into_iter().filter(|node| !need.avoids(node) && !tries.rule_out(node));
        let mut left = Vec::from_iter(left);
        if left.is_empty() {
            return Seat::Spent;
        }
        prefer(&mut left, &tries.failed, breakers_count);
        loop {
            let loads = Vec::from_iter(left.iter().map(|node| node.load()));
            let Some(picked) = balance::pick(&loads, |below| fastrand::usize(..below)) else {
                return Seat::Full;
            };
            match left[picked].lease(tokens, self.settings.calls_max) {
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
    use std::sync::Mutex;
    use std::time::Duration;

    use c3_proto::Fingerprint;

    use super::*;
    use crate::metrics::Metrics;
    use crate::nodes::CallSettings;
    use crate::nodes::node::{Condition, Known};
    use crate::nodes::registry::Registry;
    use crate::nodes::registry::tests::description;

    /// Decoders on which nothing else is going on, and which were seen to take a millisecond to a token.
    fn decoders(count: u16) -> Nodes {
        let addresses = Vec::from_iter((1..=count).map(|port| format!("127.0.0.1:{port}")));
        let settings = CallSettings {
            calls_max: 9,
            node_wait: Duration::ZERO,
            call_timeout: Duration::from_secs(60),
            tries_max: 4,
            waiting_tokens_max: 1_000_000,
        };
        let nodes = Nodes::of(Arc::new(Registry::new(&[], &addresses).unwrap()), settings, Metrics::new());
        for node in nodes.list() {
            let known = Known {
                description: Arc::new(description(Stage::Decoder, b"decoder")),
                wire: Arc::default(),
            };
            node.described(known, Condition::Ready);
        }
        let mut paces = nodes.paces.entry("Verify").or_default();
        (0..100).for_each(|_| paces.add(1000, Duration::from_secs(1)));
        drop(paces);
        nodes
    }

    /// Who was asked on behalf of one call of a thousand tokens that every node takes so long for.
    async fn asked_of(nodes: &Nodes, size: Size, took: Duration) -> Vec<String> {
        let fingerprint = Fingerprint::of(b"decoder");
        let need = Need { stage: Stage::Decoder, fingerprint, arithmetic: None, avoid: &[] };
        let asked = Mutex::new(Vec::new());
        let ask = |node: Arc<Node>| {
            asked.lock().unwrap().push(node.address.clone());
            async move {
                sleep(took).await;
                Ok(())
            }
        };
        nodes.call(need, "Verify", size, |()| 1000, ask).await.unwrap();
        asked.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_call_is_asked_of_another_node_beside_but_never_twice_of_one() {
        let (usual, late) = (Duration::from_secs(1), Duration::from_secs(5));
        let size = Size::of(1000);
        let two = decoders(2);
        assert_eq!(asked_of(&two, size, usual).await.len(), 1);
        let mut both = asked_of(&two, size, late).await;
        both.sort();
        assert_eq!(both, ["127.0.0.1:1", "127.0.0.1:2"]);
        assert_eq!(asked_of(&decoders(1), size, late).await.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_may_be_larger_than_it_looks_is_late_later() {
        let nodes = decoders(2);
        for (tokens_max, times) in [(1000, 2), (4000, 1)] {
            let size = Size { tokens: 1000, tokens_max };
            assert_eq!(asked_of(&nodes, size, Duration::from_secs(5)).await.len(), times);
        }
    }

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
