//! Every node that was configured, and what it said of itself when it was last asked.
//!
//! Each node is asked for its description once a second, by a task of its own: so a node that hangs delays nobody, a
//! dead one is left out of balancing, and one that comes back is found. That question is also the probe of a node
//! whose call failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use c3_proto::limits::SHARD_BYTES_MAX;
use c3_proto::{CascadeName, Description, Stage, pb};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::node::{Condition, Known, Node};
use crate::error::Error;

/// How often a node is asked what it serves and how busy it is.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const POLL_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest name of an arithmetic: it becomes part of file names.
const ARITHMETIC_BYTES_MAX: usize = 100;

/// The nodes.
pub(crate) struct Registry {
    nodes: Vec<Arc<Node>>,
    changed: Arc<Notify>,
}

impl Registry {
    /// The nodes at these addresses. Nothing is known of them until [`Self::watch`] runs.
    pub(crate) fn new(compressors: &[String], decoders: &[String]) -> Result<Self, Error> {
        let changed = Arc::new(Notify::new());
        let of = |stage, addresses: &[String]| {
            let nodes = addresses.iter().map(|address| Node::new(stage, address, Arc::clone(&changed)));
            nodes.map(|node| node.map(Arc::new)).collect::<Result<Vec<_>, _>>()
        };
        let nodes = [of(Stage::Compressor, compressors)?, of(Stage::Decoder, decoders)?].concat();
        Ok(Self { nodes, changed })
    }

    /// Keeps asking every node, until `shutdown`.
    pub(crate) fn watch(self: &Arc<Self>, shutdown: &CancellationToken) {
        for node in &self.nodes {
            let (registry, node) = (Arc::clone(self), Arc::clone(node));
            let polls = async move {
                loop {
                    registry.poll(&node).await;
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            };
            tokio::spawn(shutdown.clone().run_until_cancelled_owned(polls));
        }
    }

    /// All nodes.
    pub(crate) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// The nodes of a stage.
    pub(crate) fn stage(&self, stage: Stage) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter().filter(move |node| node.stage == stage)
    }

    /// The cascades that were ever described by a node that is not refused, by name.
    pub(crate) fn cascades(&self) -> BTreeMap<String, Arc<Description>> {
        let accepted = self.nodes.iter().filter(|node| !matches!(node.condition(), Condition::Refused(_)));
        let known = accepted.filter_map(|node| node.known());
        known.map(|known| (known.cascade().name.clone(), known.description)).collect()
    }

    /// What `look` finds, as soon as it finds something; `None` at the deadline.
    pub(crate) async fn wait_for<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Before looking, so that no change in between is missed.
            changed.as_mut().enable();
            if let Some(found) = look() {
                return Some(found);
            }
            if timeout_at(deadline, changed).await.is_err() {
                return None;
            }
        }
    }

    async fn poll(&self, node: &Node) {
        match timeout(POLL_TIMEOUT, describe(node)).await {
            Ok(Ok(known)) => {
                let condition = self.judge(node, &known.description);
                node.described(known, condition);
            }
            Ok(Err(condition)) => node.set(condition),
            Err(_) => node.set(Condition::Unreachable("it does not answer".to_owned())),
        }
    }

    /// Whether what a node says fits its place and the other nodes.
    fn judge(&self, node: &Node, description: &Description) -> Condition {
        let (stage, cascade) = (description.stage, &description.cascade);
        if stage != node.stage {
            return Condition::Refused(format!("it is a {stage}: list it under --{stage}"));
        }
        let most = description.shard_bytes_max;
        if stage == Stage::Compressor && most < SHARD_BYTES_MAX as u64 {
            return Condition::Refused(format!(
                "it accepts shards of {most} bytes, up to {SHARD_BYTES_MAX} come"
            ));
        }
        if description.arithmetic.len() > ARITHMETIC_BYTES_MAX {
            return Condition::Refused(format!("its arithmetic's name is over {ARITHMETIC_BYTES_MAX} bytes"));
        }
        let others = self.nodes.iter().filter(|other| !std::ptr::eq(other.as_ref(), node));
        let contradicts = |other: &Arc<Node>| {
            let known = other.ready()?;
            contradiction(known.cascade(), cascade).map(|problem| format!("{problem} at {}", other.address))
        };
        others.filter_map(contradicts).next().map_or(Condition::Ready, Condition::Refused)
    }
}

/// How a cascade of the same name differs.
fn contradiction(one: &CascadeName, other: &CascadeName) -> Option<String> {
    let differs = |stage| {
        let (ours, theirs) = (other.fingerprint(stage), one.fingerprint(stage));
        (ours != theirs).then(|| format!("its `{}` has {stage} {ours}, but {theirs}", one.name))
    };
    let same_name = one.name == other.name;
    same_name.then(|| differs(Stage::Compressor).or_else(|| differs(Stage::Decoder))).flatten()
}

async fn describe(node: &Node) -> Result<Known, Condition> {
    let answer = match node.stage {
        Stage::Compressor => node.compressor().describe(pb::DescribeRequest {}).await,
        Stage::Decoder => node.decoder().describe(pb::DescribeRequest {}).await,
    };
    let wire = answer.map_err(|status| condition_of(&status))?.into_inner();
    let description = Description::from_wire(wire.clone());
    let description = description
        .map_err(|invalid| Condition::Refused(format!("it describes itself wrongly: {invalid}")))?;
    Ok(Known { description: Arc::new(description), wire: Arc::new(wire) })
}

/// What a call that failed says of its node.
pub(crate) fn condition_of(status: &Status) -> Condition {
    // Where the transport fails, it is the source.
    let answered = std::error::Error::source(status).is_none();
    match status.code() {
        Code::Unavailable if answered => Condition::NotServing(status.message().to_owned()),
        Code::Unimplemented => {
            Condition::Refused("it offers another service: check the list it is in".to_owned())
        }
        _ => Condition::Unreachable(reason(status)),
    }
}

/// The innermost reason of a status: "connection refused" and not the four layers above it.
pub(crate) fn reason(status: &Status) -> String {
    let outermost = std::error::Error::source(status);
    let causes = std::iter::successors(outermost, |error| error.source());
    causes.last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use c3_proto::{Fingerprint, LatentCodec, RatioRange};

    use super::*;

    fn description(stage: Stage, decoder: &[u8]) -> Description {
        Description {
            stage,
            cascade: CascadeName {
                name: "c3-mini".to_owned(),
                compressor: Fingerprint::of(b"compressor"),
                decoder: Fingerprint::of(decoder),
            },
            arithmetic: "f32".to_owned(),
            ratios: RatioRange { min: 8, max: 80, default: 20 },
            codec: LatentCodec::Q4_0,
            takes_prompt: false,
            shard_bytes_max: SHARD_BYTES_MAX as u64,
        }
    }

    fn registry() -> Registry {
        let address = |port: u16| format!("127.0.0.1:{port}");
        Registry::new(&[address(1)], &[address(2), address(3)]).unwrap()
    }

    fn accept(registry: &Registry, index: usize, description: Description) {
        let node = &registry.nodes()[index];
        let condition = registry.judge(node, &description);
        node.described(Known { description: Arc::new(description), wire: Arc::default() }, condition);
    }

    #[tokio::test]
    async fn a_node_that_contradicts_its_cascade_is_refused_until_the_others_are_gone() {
        let registry = registry();
        accept(&registry, 0, description(Stage::Compressor, b"decoder"));
        accept(&registry, 1, description(Stage::Decoder, b"decoder"));
        accept(&registry, 2, description(Stage::Decoder, b"other"));
        let Condition::Refused(problem) = registry.nodes()[2].condition() else { panic!() };
        for part in [Fingerprint::of(b"decoder").to_string(), Fingerprint::of(b"other").to_string()] {
            assert!(problem.contains(&part), "{problem}");
        }
        assert_eq!(registry.cascades().len(), 1);
        for index in [0, 1] {
            registry.nodes()[index].set(Condition::Unreachable(String::new()));
        }
        accept(&registry, 2, description(Stage::Decoder, b"other"));
        assert_eq!(registry.nodes()[2].condition(), Condition::Ready);
    }

    #[tokio::test]
    async fn a_node_in_the_wrong_list_is_refused() {
        let registry = registry();
        accept(&registry, 0, description(Stage::Decoder, b"decoder"));
        let Condition::Refused(problem) = registry.nodes()[0].condition() else { panic!() };
        assert!(problem.contains("--decoder"), "{problem}");
        assert!(registry.nodes()[0].ready().is_none());
    }

    #[tokio::test]
    async fn who_waits_for_a_node_is_told() {
        let registry = Arc::new(registry());
        let waiting = {
            let registry = Arc::clone(&registry);
            let deadline = Instant::now() + Duration::from_secs(60);
            tokio::spawn(async move {
                let look = || registry.stage(Stage::Decoder).find_map(|node| node.ready());
                registry.wait_for(deadline, look).await.is_some()
            })
        };
        tokio::task::yield_now().await;
        accept(&registry, 2, description(Stage::Decoder, b"decoder"));
        assert!(waiting.await.unwrap());
        assert_eq!(registry.wait_for(Instant::now(), || None::<()>).await, None);
    }
}
