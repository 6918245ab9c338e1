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

/// Maximum expected wait for a decoder at which background work is admitted. A node finishes a batch in about this
/// time.
const BACKGROUND_WAIT_MAX: Duration = Duration::from_millis(100);

/// Class of a request. Background work is refused first, then writes, then reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestClass {
    /// Reads a text.
    Read,
    /// Stores a text, or writes a stored document again with other options.
    Write,
    /// Decodes texts that no caller waits for.
    Background,
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

/// A ready node of a stage, with the estimated text tokens that are queued or running at it now.
struct Member {
    stage: Stage,
    info: NodeInfo,
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
    /// Seconds that one node would need for the tokens that are at all nodes now: as last reported, without the
    /// calls of this gateway that ended since, and with those that began.
    pub(crate) current_seconds: f64,
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
            groups.entry(key).or_default().push(Member { stage: node.stage, info, tokens: node.load().tokens() });
        }
        let waiting = waiting.lock();
        groups.into_iter().map(|((cascade, _), members)| Self::of_members(cascade, &members, &waiting)).collect()
    }

    /// Returns the load of nodes with the same stage and cascade. There must be at least one.
    fn of_members(cascade: String, members: &[Member], waiting: &HashMap<Demand, u64>) -> Self {
        let stage = members[0].stage;
        let fingerprint = members[0].info.cascade().fingerprint(stage);
        let loads = Vec::from_iter(members.iter().map(|member| member.info.wire.load.unwrap_or_default()));
        let seconds_in = |phase| {
            let of_this =
                |demand: &Demand| demand.stage == stage && demand.fingerprint == fingerprint && demand.phase == phase;
            let demands = waiting.iter().filter(|(demand, _)| of_this(demand));
            demands.map(|(demand, tokens)| seconds(demand.method, *tokens, &loads)).sum()
        };
        let tokens = members.iter().map(|member| member.tokens).sum();
        // Before a node has decoded, only its rate of verification is known.
        let current_seconds = ["Decode", "Verify"].map(|method| seconds(method, tokens, &loads));
        let current_seconds = current_seconds.into_iter().find(|seconds| *seconds > 0.0).unwrap_or_default();
        Self {
            stage,
            cascade,
            ready_nodes: loads.len(),
            busy_nodes: loads.iter().map(|load| positive(load.busy_share).min(1.0)).sum(),
            node_seconds: loads.iter().map(|load| positive(load.backlog_seconds)).sum(),
            current_seconds,
            gateway_seconds: seconds_in(Phase::Waiting),
            upcoming_seconds: seconds_in(Phase::Upcoming),
            oldest_job_seconds: loads.iter().map(|load| positive(load.oldest_job_seconds)).fold(0.0, f64::max),
        }
    }

    /// Returns the expected wait of a new call of this stage. Upcoming calls do not count, because they wait elsewhere.
    fn wait(&self) -> Duration {
        self.shared_by_nodes(self.node_seconds + self.gateway_seconds)
    }

    /// Returns the expected wait of background work. Unlike [`Self::wait`], it does not count what the same work did
    /// since the last reports, which would make the work yield to itself.
    fn background_wait(&self) -> Duration {
        self.shared_by_nodes(self.current_seconds + self.gateway_seconds)
    }

    fn shared_by_nodes(&self, seconds: f64) -> Duration {
        Duration::try_from_secs_f64(seconds / self.ready_nodes.max(1) as f64).unwrap_or(Duration::MAX)
    }
}

/// Returns [`Error::Shed`] if a new request of this class must be refused, because it would wait longer than `wait_max`,
/// or half of it for writes. Writes are refused first, because a writer can usually retry later, whereas a reader waits
/// for the text. If several cascades are served, the one with the shortest wait decides.
///
/// Background work is refused unless the decoders have almost nothing to do. The cascade with the longest wait decides.
pub(crate) fn admit(class: RequestClass, loads: &[StageLoad], wait_max: Duration) -> Result<(), Error> {
    let (stages, most): (&[Stage], _) = match class {
        RequestClass::Read => (&[Stage::Decoder], wait_max),
        RequestClass::Write => (&Stage::ALL, wait_max / 2),
        RequestClass::Background => (&[Stage::Decoder], BACKGROUND_WAIT_MAX.min(wait_max / 2)),
    };
    for &stage in stages {
        let loads = loads.iter().filter(|load| load.stage == stage);
        let wait = match class {
            RequestClass::Read | RequestClass::Write => loads.map(StageLoad::wait).min(),
            RequestClass::Background => loads.map(StageLoad::background_wait).max(),
        };
        let Some(wait) = wait.filter(|wait| *wait > most) else { continue };
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
            current_seconds: seconds,
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
    fn background_work_needs_idle_decoders_in_every_cascade() {
        let is_admitted = |loads: &[StageLoad], wait_max| admit(RequestClass::Background, loads, wait_max).is_ok();
        let wait_max = Duration::from_secs(10);
        let decoders = |seconds, nodes| [load(Stage::Decoder, "a", seconds, nodes)];
        assert!(is_admitted(&decoders(0.1, 1), wait_max) && !is_admitted(&decoders(0.11, 1), wait_max));
        assert!(is_admitted(&decoders(0.2, 2), wait_max) && !is_admitted(&decoders(0.21, 2), wait_max));
        assert!(!is_admitted(&decoders(0.1, 1), Duration::from_millis(150)), "writes would be refused");
        assert!(is_admitted(&[load(Stage::Compressor, "a", 50.0, 1)], wait_max), "it needs no compressor");
        let one_is_busy = [load(Stage::Decoder, "a", 0.0, 1), load(Stage::Decoder, "b", 1.0, 1)];
        assert!(!is_admitted(&one_is_busy, wait_max));
        let waiting = StageLoad { gateway_seconds: 1.0, ..load(Stage::Decoder, "a", 0.0, 1) };
        assert!(!is_admitted(&[waiting], wait_max), "calls wait for a node");
        let own_work_has_ended = StageLoad { current_seconds: 0.0, ..load(Stage::Decoder, "a", 1.0, 1) };
        assert!(is_admitted(&[own_work_has_ended], wait_max));
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
