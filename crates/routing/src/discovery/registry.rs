//! Every node that is known, from wherever: a list, DNS, or its own announcement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use c3_proto::limits::SHARD_BYTES_MAX;
use c3_proto::{CascadeName, Description, Stage};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::node::{Condition, Node};
use super::probe::Prober;
use super::sources;
use crate::error::Error;

/// Longest name of an arithmetic: it becomes part of file names.
const ARITHMETIC_BYTES_MAX: usize = 100;

/// The nodes.
pub(crate) struct Registry {
    members: RwLock<Vec<Member>>,
    /// Names to resolve.
    names: Vec<(Stage, String)>,
    changed: Arc<Notify>,
    prober: OnceLock<Prober>,
}

/// A node, which is asked how it is for as long as it is here.
struct Member {
    node: Arc<Node>,
    origin: Origin,
    _probing: Option<AbortOnDropHandle<()>>,
}

/// Where a node comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The settings.
    List,
    /// This name in DNS.
    Name(String),
    /// Its own announcement, which holds until then.
    Lease(Instant),
}

impl Registry {
    /// The nodes at these addresses, and those that their names stand for. Nothing is known of them until
    /// [`Self::watch`] runs.
    pub(crate) fn new(compressors: &[String], decoders: &[String]) -> Result<Self, Error> {
        let (changed, mut members, mut names) = (Arc::<Notify>::default(), Vec::new(), Vec::new());
        for (stage, addresses) in [(Stage::Compressor, compressors), (Stage::Decoder, decoders)] {
            for address in addresses {
                // A name is held against the rules for an address as well: it is one of several.
                let name = address.strip_prefix(sources::DNS);
                let node = Node::new(stage, name.unwrap_or(address), Arc::clone(&changed))?;
                match name {
                    Some(name) => names.push((stage, name.to_owned())),
                    None => {
                        members.push(Member { node: Arc::new(node), origin: Origin::List, _probing: None })
                    }
                }
            }
        }
        Ok(Self { members: RwLock::new(members), names, changed, prober: OnceLock::new() })
    }

    /// A node that is not a member yet.
    pub(crate) fn node(&self, stage: Stage, address: &str) -> Result<Node, Error> {
        Node::new(stage, address, Arc::clone(&self.changed))
    }

    /// Keeps asking every node, those that come later included, until `shutdown`.
    pub(crate) fn watch(self: &Arc<Self>, shutdown: &CancellationToken) -> Result<(), Error> {
        let started = Prober::start(shutdown.clone())?;
        let prober = self.prober.get_or_init(|| started);
        self.change(|members| {
            for member in members {
                member._probing = Some(prober.watch(Arc::downgrade(self), Arc::clone(&member.node)));
            }
        });
        for (stage, name) in self.names.clone() {
            prober.run(sources::follow_name(Arc::downgrade(self), stage, name));
        }
        prober.run(sources::let_lapse(Arc::downgrade(self)));
        Ok(())
    }

    /// All nodes.
    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.iter().map(|member| Arc::clone(&member.node)).collect()
    }

    /// The nodes of a stage.
    pub(crate) fn stage(&self, stage: Stage) -> impl Iterator<Item = Arc<Node>> {
        self.nodes().into_iter().filter(move |node| node.stage == stage)
    }

    /// Takes a node in, unless it is here already.
    pub(crate) fn add(self: &Arc<Self>, node: Arc<Node>, origin: Origin) {
        let probing =
            || self.prober.get().map(|prober| prober.watch(Arc::downgrade(self), Arc::clone(&node)));
        self.change(|members| {
            if !members.iter().any(|member| member.is_at(node.stage, &node.address)) {
                members.push(Member { origin, _probing: probing(), node: Arc::clone(&node) });
            }
        });
    }

    /// Has the lease of a node hold until then. Whether there is such a node.
    pub(crate) fn renew(&self, stage: Stage, address: &str, until: Instant) -> bool {
        let mut found = false;
        self.change(|members| {
            let known = members.iter_mut().find(|member| member.is_at(stage, address));
            found = known.is_some();
            if let Some(Member { origin: Origin::Lease(lapses), .. }) = known {
                *lapses = until;
            }
        });
        found
    }

    /// The nodes of a name are those at these addresses. Calls in flight on others go on.
    pub(crate) fn set_resolved(self: &Arc<Self>, stage: Stage, name: &str, addresses: &BTreeSet<String>) {
        let origin = Origin::Name(name.to_owned());
        self.change(|members| {
            let stays = |member: &Member| {
                member.origin != origin || member.node.stage != stage || addresses.contains(&member.node.address)
            };
            for gone in members.extract_if(.., |member| !stays(member)) {
                tracing::info!(%stage, address = gone.node.address, name, "the name does not stand for a node any more");
            }
        });
        for address in addresses {
            // What DNS gives is an address.
            if let Ok(node) = self.node(stage, address) {
                self.add(Arc::new(node), origin.clone());
            }
        }
    }

    /// Lets nodes go whose lease lapsed. Calls in flight on them go on.
    pub(crate) fn drop_lapsed(&self, now: Instant) {
        self.change(|members| {
            let lapsed = |member: &mut Member| matches!(member.origin, Origin::Lease(until) if until < now);
            for gone in members.extract_if(.., lapsed) {
                let Node { stage, address, .. } = &*gone.node;
                tracing::warn!(%stage, address, "a node did not announce itself again and is let go");
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Member>)) {
        change(&mut self.members.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
    }

    /// The cascades that were ever described by a node that is not refused, by name.
    pub(crate) fn cascades(&self) -> BTreeMap<String, Arc<Description>> {
        let accepted =
            self.nodes().into_iter().filter(|node| !matches!(node.condition(), Condition::Refused(_)));
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

    /// Whether what a node says fits its place and the other nodes.
    pub(crate) fn judge(&self, node: &Node, description: &Description) -> Condition {
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
        let others = self.nodes().into_iter().filter(|other| !std::ptr::eq(other.as_ref(), node));
        let contradicts = |other: Arc<Node>| {
            let known = other.ready()?;
            contradiction(known.cascade(), cascade).map(|problem| format!("{problem} at {}", other.address))
        };
        others.filter_map(contradicts).next().map_or(Condition::Ready, Condition::Refused)
    }
}

impl Member {
    fn is_at(&self, stage: Stage, address: &str) -> bool {
        self.node.stage == stage && self.node.address == address
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

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use c3_proto::{Fingerprint, LatentCodec, RatioRange};

    use super::*;
    use crate::nodes::node::Known;

    /// What a node of a stage says of itself, where its cascade's decoder has this fingerprint.
    pub(in crate::nodes) fn description(stage: Stage, decoder: &[u8]) -> Description {
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
