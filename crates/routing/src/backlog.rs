//! Backlog of the stages: work that waits in this gateway and at the nodes, in seconds. It decides whether new requests
//! are admitted, and operators and autoscalers see it as metrics.
//!
//! Nodes report their work and their rates with each health check, so every gateway sees the same values for nodes. Only
//! the work that waits in a gateway itself differs between gateways.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use c3_proto::pb;
use c3_types::{Fingerprint, Stage};

use crate::error::Error;
use crate::node::{Node, NodeInfo};

/// Minimum and maximum of the delay after which the caller of a refused request should retry.
const RETRY_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Class of a request. Writes are refused before reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestClass {
    /// Reads a text.
    Read,
    /// Stores a text, or writes a stored document again with other options.
    Write,
}

/// A method of a stage, with the fingerprint of the model that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Demand {
    pub(crate) stage: Stage,
    pub(crate) fingerprint: Fingerprint,
    /// Method of the stage's gRPC service.
    pub(crate) method: &'static str,
    pub(crate) phase: Phase,
}

/// Phase of a stage call before a node takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// The call waits for a node.
    Waiting,
    /// The call follows once a node of the other stage has answered.
    Upcoming,
}

/// Text tokens of the stage calls of this gateway that no node has taken yet; clones share the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct WaitingTokens(Arc<Mutex<HashMap<Demand, u64>>>);

/// Guard that counts the tokens of a demand until the guard is dropped.
pub(crate) struct WaitingGuard {
    waiting: WaitingTokens,
    demand: Demand,
    tokens: u64,
}

/// Load of the nodes of one stage of a cascade, and of this gateway's calls that wait for them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StageLoad {
    pub(crate) stage: Stage,
    pub(crate) cascade: String,
    /// Ready nodes.
    pub(crate) ready_nodes: usize,
    /// Sum of the busy shares of the ready nodes. Two nodes that compute half of the time count as 1.
    pub(crate) busy_nodes: f64,
    /// Seconds that one node would need for the work that is queued or running at all nodes.
    pub(crate) node_seconds: f64,
    /// Seconds that one node would need for the work that waits in this gateway.
    pub(crate) gateway_seconds: f64,
    /// Seconds that one node would need to verify the shards that this gateway's compressors have not answered yet.
    pub(crate) upcoming_seconds: f64,
    /// Age in seconds of the oldest job that waits at a node.
    pub(crate) oldest_job_seconds: f64,
}

impl WaitingTokens {
    /// Counts `tokens` until the returned guard is dropped.
    pub(crate) fn hold(&self, demand: Demand, tokens: u64) -> WaitingGuard {
        *self.lock().entry(demand).or_default() += tokens;
        WaitingGuard { waiting: self.clone(), demand, tokens }
    }

    /// Returns the number of tokens of the calls that wait for a node.
    pub(crate) fn total(&self) -> u64 {
        let counts = self.lock();
        counts.iter().filter(|(demand, _)| demand.phase == Phase::Waiting).map(|(_, tokens)| tokens).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Demand, u64>> {
        // No code that holds this lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WaitingGuard {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock();
        if let Some(tokens) = waiting.get_mut(&self.demand) {
            *tokens -= self.tokens;
            if *tokens == 0 {
                waiting.remove(&self.demand);
            }
        }
    }
}

impl StageLoad {
    /// Returns the load of each stage of each cascade that has a ready node.
    pub(crate) fn of_all(nodes: &[Arc<Node>], waiting: &WaitingTokens) -> Vec<Self> {
        let mut groups = BTreeMap::<_, Vec<_>>::new();
        for node in nodes {
            let Some(info) = node.ready_info() else { continue };
            let key = (info.cascade().name.clone(), node.service());
            groups.entry(key).or_default().push((node.stage, info));
        }
        let waiting = waiting.lock();
        groups.into_iter().map(|((cascade, _), members)| Self::of_members(cascade, &members, &waiting)).collect()
    }

    /// Returns the load of nodes with the same stage and cascade. There must be at least one.
    fn of_members(cascade: String, members: &[(Stage, NodeInfo)], waiting: &HashMap<Demand, u64>) -> Self {
        let (stage, fingerprint) = (members[0].0, members[0].1.cascade().fingerprint(members[0].0));
        let loads = Vec::from_iter(members.iter().map(|(_, info)| info.wire.load.unwrap_or_default()));
        let seconds_in = |phase| {
            let of_this =
                |demand: &Demand| demand.stage == stage && demand.fingerprint == fingerprint && demand.phase == phase;
            let demands = waiting.iter().filter(|(demand, _)| of_this(demand));
            demands.map(|(demand, tokens)| seconds(demand.method, *tokens, &loads)).sum()
        };
        Self {
            stage,
            cascade,
            ready_nodes: loads.len(),
            busy_nodes: loads.iter().map(|load| positive(load.busy_share).min(1.0)).sum(),
            node_seconds: loads.iter().map(|load| positive(load.backlog_seconds)).sum(),
            gateway_seconds: seconds_in(Phase::Waiting),
            upcoming_seconds: seconds_in(Phase::Upcoming),
            oldest_job_seconds: loads.iter().map(|load| positive(load.oldest_job_seconds)).fold(0.0, f64::max),
        }
    }

    /// Returns the expected wait of a new call of this stage. Upcoming calls do not count, because they wait elsewhere.
    fn wait(&self) -> Duration {
        let seconds = (self.node_seconds + self.gateway_seconds) / self.ready_nodes.max(1) as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// Returns [`Error::Shed`] if a new request of this class must be refused, because it would wait longer than `wait_max`,
/// or half of it for writes. Writes are refused first, because a writer can usually retry later, whereas a reader waits
/// for the text. If several cascades are served, the one with the shortest wait decides.
pub(crate) fn admit(class: RequestClass, loads: &[StageLoad], wait_max: Duration) -> Result<(), Error> {
    let (stages, most): (&[Stage], _) = match class {
        RequestClass::Read => (&[Stage::Decoder], wait_max),
        RequestClass::Write => (&Stage::ALL, wait_max / 2),
    };
    for &stage in stages {
        let waits = loads.iter().filter(|load| load.stage == stage).map(StageLoad::wait);
        let Some(wait) = waits.min().filter(|wait| *wait > most) else { continue };
        let [min, max] = RETRY_AFTER;
        let retry_after_ms = (wait - most).clamp(min, max).as_millis() as u64;
        return Err(Error::Shed { stage, wait_seconds: wait.as_secs_f64(), retry_after_ms });
    }
    Ok(())
}

/// Returns the seconds that an average node needs for tokens of a method. Nodes that have not measured their rate are
/// left out; if none has, the result is 0.
fn seconds(method: &str, tokens: u64, loads: &[pb::NodeLoad]) -> f64 {
    let rate = |load: &pb::NodeLoad| match method {
        "Compress" => load.compress_tokens_per_second,
        "Verify" => load.verify_tokens_per_second,
        _ => load.decode_tokens_per_second,
    };
    let rates = Vec::from_iter(loads.iter().map(rate).map(positive).filter(|rate| *rate > 0.0));
    if rates.is_empty() { 0.0 } else { tokens as f64 * rates.len() as f64 / rates.iter().sum::<f64>() }
}

/// Returns a value that a node reported, or 0 if it is negative or not finite.
fn positive(value: f64) -> f64 {
    if value.is_finite() { value.max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(stage: Stage, cascade: &str, seconds: f64, ready_nodes: usize) -> StageLoad {
        StageLoad {
            stage,
            cascade: cascade.to_owned(),
            ready_nodes,
            busy_nodes: 1.0,
            node_seconds: seconds,
            gateway_seconds: 0.0,
            upcoming_seconds: 0.0,
            oldest_job_seconds: 0.0,
        }
    }

    fn admitted(loads: &[StageLoad]) -> [bool; 2] {
        [RequestClass::Read, RequestClass::Write].map(|class| admit(class, loads, Duration::from_secs(10)).is_ok())
    }

    #[test]
    fn writes_are_refused_before_reads_and_nodes_share_the_wait() {
        let decoders = |seconds, nodes| [load(Stage::Decoder, "a", seconds, nodes)];
        assert_eq!(admitted(&decoders(4.0, 1)), [true, true]);
        assert_eq!(admitted(&decoders(6.0, 1)), [true, false]);
        assert_eq!(admitted(&decoders(11.0, 1)), [false, false]);
        assert_eq!(admitted(&decoders(11.0, 4)), [true, true]);
        assert_eq!(admitted(&[load(Stage::Compressor, "a", 50.0, 1)]), [true, false]);
        assert_eq!(admitted(&[]), [true, true]);
    }

    #[test]
    fn the_cascade_with_the_shortest_wait_decides() {
        let both = [load(Stage::Decoder, "a", 50.0, 1), load(Stage::Decoder, "b", 1.0, 1)];
        assert_eq!(admitted(&both), [true, true]);
    }

    #[test]
    fn a_refusal_says_when_to_come_again() {
        let refused = admit(RequestClass::Read, &[load(Stage::Decoder, "a", 13.0, 1)], Duration::from_secs(10));
        let Err(Error::Shed { stage: Stage::Decoder, retry_after_ms: 3000, .. }) = refused else {
            panic!("{refused:?}")
        };
    }

    #[test]
    fn waiting_tokens_count_with_the_rates_of_the_nodes() {
        let fingerprint = Fingerprint::of(b"decoder");
        let demand = |method, phase| Demand { stage: Stage::Decoder, fingerprint, method, phase };
        let waiting = WaitingTokens::default();
        let held = [
            waiting.hold(demand("Decode", Phase::Waiting), 100),
            waiting.hold(demand("Verify", Phase::Waiting), 50),
            waiting.hold(demand("Verify", Phase::Upcoming), 25),
        ];
        assert_eq!((waiting.total(), waiting.lock().len()), (150, 3));
        drop(held);
        assert_eq!((waiting.total(), waiting.lock().len()), (0, 0));
        let rates = |decode| pb::NodeLoad { decode_tokens_per_second: decode, ..Default::default() };
        assert_eq!(seconds("Decode", 300, &[rates(100.0), rates(200.0), rates(0.0)]), 2.0);
        assert_eq!(seconds("Verify", 300, &[rates(100.0)]), 0.0);
        assert_eq!(seconds("Decode", 300, &[rates(f64::NAN), rates(-1.0)]), 0.0);
    }
}
