//! The nodes, and calls to them: the right one is picked, and a call that fails on one is tried on another.
//!
//! [`registry`] knows the nodes, [`sources`] brings new ones, [`probe`] asks them how they are, [`node`] is one of them.
//! [`calls`] are the four things that are asked and [`call`] is the loop around them: [`balance`] picks, unless a node's
//! [`breaker`] is open; [`pace`] tells which node is far slower than others; [`tries`] remembers what failed; [`budget`]
//! bounds all that is asked more than once; and [`waiting`] who is let in.

mod balance;
mod breaker;
mod budget;
mod call;
pub(crate) mod calls;
mod node;
mod pace;
mod probe;
mod registry;
pub(crate) mod sources;
mod tries;
pub(crate) mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use c3_proto::{Description, Fingerprint, Invalid, Stage, pb};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::budget::Budget;
pub(crate) use self::node::{Condition, Node};
use self::registry::Registry;
use self::sources::Announcement;
use self::tries::Tries;
use self::waiting::Waiting;
use crate::error::{Error, Failure};
use crate::metrics::Metrics;

/// How nodes are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallSettings {
    /// Most calls in flight on one node; more wait here, where the freest node takes the next.
    pub(crate) calls_max: usize,
    /// How long to wait for a node where none takes calls.
    pub(crate) node_wait: Duration,
    /// Longest time of one call, its wait in the node's queue included.
    pub(crate) call_timeout: Duration,
    /// On how many nodes a call is tried where they die, a node that came back counted again.
    pub(crate) tries_max: usize,
    /// Text tokens that may wait here; with more of them new calls are refused.
    pub(crate) waiting_tokens_max: u64,
}

/// The nodes, and how they are called.
pub(crate) struct Nodes {
    registry: Arc<Registry>,
    settings: CallSettings,
    budget: Budget,
    pub(crate) waiting: Waiting,
    metrics: Metrics,
}

/// What a call needs of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need<'a> {
    pub(crate) stage: Stage,
    /// Fingerprint of the stage.
    pub(crate) fingerprint: Fingerprint,
    /// Name of the arithmetic, where it must be that one.
    pub(crate) arithmetic: Option<&'a str>,
    /// Nodes that are not to be asked (again).
    pub(crate) avoid: &'a [Arc<Node>],
}

/// An answer and who gave it.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) value: T,
    pub(crate) node: Arc<Node>,
    /// How long the node took.
    pub(crate) took: Duration,
}

impl Nodes {
    /// The nodes at these addresses, watched until `shutdown`.
    pub(crate) fn watch(
        compressors: &[String],
        decoders: &[String],
        settings: CallSettings,
        metrics: Metrics,
        shutdown: &CancellationToken,
    ) -> Result<Self, Error> {
        let registry = Arc::new(Registry::new(compressors, decoders)?);
        registry.watch(shutdown)?;
        Ok(Self::of(registry, settings, metrics))
    }

    /// Those of a registry.
    fn of(registry: Arc<Registry>, settings: CallSettings, metrics: Metrics) -> Self {
        let waiting = Waiting::up_to(settings.waiting_tokens_max);
        Self { registry, settings, budget: Budget::full(), waiting, metrics }
    }

    /// Every node with its condition.
    pub(crate) fn list(&self) -> Vec<Arc<Node>> {
        self.registry.nodes()
    }

    /// Takes in a node that announces itself, or renews its lease; says how long that holds.
    pub(crate) async fn announce(&self, announcement: Announcement) -> Result<Duration, Failure> {
        announcement.accept(&self.registry).await
    }

    /// What the cascade of this name, or the only one, is like.
    pub(crate) async fn cascade(&self, name: Option<&str>) -> Result<Arc<Description>, Failure> {
        let mut cascades = self.cascades().await?;
        let found = match name {
            Some(name) => cascades.remove(name),
            None if cascades.len() == 1 => cascades.pop_first().map(|(_, only)| only),
            None => None,
        };
        found.ok_or_else(|| {
            let names = Vec::from_iter(cascades.into_keys()).join(", ");
            let problem = match name {
                Some(name) => format!("`{name}` is not served here, these are: {names}"),
                None => format!("several are served, name one of them: {names}"),
            };
            Invalid::new("cascade", problem).into()
        })
    }

    /// What the cascade of this name, or any, whose compressor made these latents is like.
    pub(crate) async fn cascade_of_latents(
        &self,
        name: Option<&str>,
        made_by: Fingerprint,
    ) -> Result<Arc<Description>, Failure> {
        let candidates = match name {
            Some(name) => vec![self.cascade(Some(name)).await?],
            None => Vec::from_iter(self.cascades().await?.into_values()),
        };
        let served = Vec::from_iter(candidates.iter().map(|known| known.cascade.compressor.to_string()));
        let fitting = candidates.into_iter().find(|known| known.cascade.compressor == made_by);
        fitting.ok_or_else(|| Failure::WrongModel {
            stage: Stage::Compressor,
            given: made_by,
            served: served.join(", "),
        })
    }

    /// What every cascade is like that was ever seen, by name; waits for the first.
    async fn cascades(&self) -> Result<BTreeMap<String, Arc<Description>>, Failure> {
        let known = || Some(self.registry.cascades()).filter(|cascades| !cascades.is_empty());
        let found = self.registry.wait_for(self.wait_deadline(), known).await;
        found.ok_or_else(|| self.nobody(Stage::Compressor, None, &Tries::default()))
    }

    /// The arithmetic in which most of the ready decoders with this fingerprint compute.
    pub(crate) async fn arithmetic(&self, decoder: Fingerprint) -> Result<String, Failure> {
        let need = Need { stage: Stage::Decoder, fingerprint: decoder, arithmetic: None, avoid: &[] };
        let look = || {
            let fitting = self.registry.stage(Stage::Decoder).filter(|node| need.fits(node));
            let mut names: Vec<String> =
                fitting.filter_map(|node| Some(node.ready()?.description.arithmetic.clone())).collect();
            names.sort_unstable();
            let counted = names.chunk_by(|a, b| a == b);
            // Of equally common ones the first by name, so that a text put again finds its corrections.
            counted.rev().max_by_key(|equal| equal.len()).map(|equal| equal[0].clone())
        };
        let found = self.registry.wait_for(self.wait_deadline(), look).await;
        found.ok_or_else(|| self.nobody_fits(&need, &Tries::default()))
    }

    /// Whether waiting is in vain: every node of the stage takes calls, but for another model.
    fn all_are_of_other_models(&self, need: &Need<'_>) -> bool {
        let other = |node: Arc<Node>| {
            node.ready().is_some_and(|known| known.cascade().fingerprint(need.stage) != need.fingerprint)
        };
        self.registry.stage(need.stage).all(other)
    }

    fn wait_deadline(&self) -> Instant {
        Instant::now() + self.settings.node_wait
    }

    fn nobody_fits(&self, need: &Need<'_>, tries: &Tries) -> Failure {
        if tries.failed.is_empty() && self.all_are_of_other_models(need) {
            let served = self.registry.stage(need.stage).filter_map(|node| node.ready());
            let served = served.map(|known| known.cascade().fingerprint(need.stage).to_string());
            return Failure::WrongModel {
                stage: need.stage,
                given: need.fingerprint,
                served: Vec::from_iter(served).join(", "),
            };
        }
        if tries.late > 0 && tries.late == tries.failed.len() {
            return Failure::Late { stage: need.stage, tried: self.tried(need.stage, tries) };
        }
        self.nobody(need.stage, need.arithmetic, tries)
    }

    fn nobody(&self, stage: Stage, arithmetic: Option<&str>, tries: &Tries) -> Failure {
        let wanted = match arithmetic {
            Some(arithmetic) => format!("{stage} with arithmetic {arithmetic}"),
            None => stage.to_string(),
        };
        Failure::NoNode { wanted, tried: self.tried(stage, tries) }
    }

    /// Every address of a stage with what its node said.
    fn tried(&self, stage: Stage, tries: &Tries) -> String {
        let of = |node: Arc<Node>| {
            let said = tries.failed.iter().rfind(|(tried, _)| Arc::ptr_eq(tried, &node));
            let said = match (said, node.condition()) {
                (Some((_, said)), _) => said.clone(),
                (None, Condition::Ready) => "not asked: it does not fit, or no try was left".to_owned(),
                (
                    None,
                    Condition::Unreachable(why) | Condition::NotServing(why) | Condition::Refused(why),
                ) => why,
            };
            format!("{} ({said})", node.address)
        };
        Vec::from_iter(self.registry.stage(stage).map(of)).join(", ")
    }
}

impl Need<'_> {
    fn fits(&self, node: &Arc<Node>) -> bool {
        node.ready().is_some_and(|known| {
            let arithmetic = self.arithmetic.is_none_or(|name| name == known.description.arithmetic);
            arithmetic && known.cascade().fingerprint(self.stage) == self.fingerprint
        })
    }

    fn avoids(&self, node: &Arc<Node>) -> bool {
        self.avoid.iter().any(|avoided| Arc::ptr_eq(avoided, node))
    }
}

impl Node {
    /// The node as callers see it.
    pub(crate) fn to_wire(&self) -> pb::Node {
        let (state, problem) = match self.condition() {
            Condition::Ready => (pb::NodeState::Ready, String::new()),
            Condition::Unreachable(why) => (pb::NodeState::Unreachable, why),
            Condition::NotServing(why) => (pb::NodeState::NotServing, why),
            Condition::Refused(why) => (pb::NodeState::Refused, why),
        };
        pb::Node {
            address: self.address.clone(),
            stage: self.stage.to_wire(),
            state: state as i32,
            problem,
            description: self.known().map(|known| pb::DescribeResponse::clone(&known.wire)),
            calls_in_flight: self.load().calls as u32,
        }
    }

    /// Name of the order and precision in which it computes, where it ever said.
    pub(crate) fn arithmetic(&self) -> Option<String> {
        self.known().map(|known| known.description.arithmetic.clone())
    }
}
