//! Registry of all known nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use c3_server::throttle::Throttle;
use c3_tls::Credentials;
use c3_types::limits::SHARD_BYTES_MAX;
use c3_types::{Cascade, Description, Stage};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::StartError;
use crate::health::HealthThread;
use crate::node::{Health, Node, NodeAddress};

use super::dns::DnsName;

/// Maximum interval between two checks for stages without a ready node. Each change of a node triggers a check too.
const STAGES_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum length of the name of an arithmetic, in bytes. An arithmetic is the exact order and precision in which a
/// decoder computes: nodes with the same arithmetic produce identical bits. Its name becomes part of file names.
const ARITHMETIC_BYTES_MAX: usize = 100;

/// All known nodes.
pub(crate) struct Registry {
    members: RwLock<Vec<Member>>,
    dns_names: Vec<DnsName>,
    credentials: Credentials,
    changed: Arc<Notify>,
    /// Limit on the log lines of refused announcements, by stage.
    pub(crate) refusal_lines: Throttle<Stage>,
    health_thread: OnceLock<HealthThread>,
    unready_stages: watch::Sender<Vec<Stage>>,
}

/// A node with its health checks, which end when the member is removed.
struct Member {
    node: Arc<Node>,
    origin: Origin,
    _checks: Option<AbortOnDropHandle<()>>,
}

/// Source of a node. It decides when the node is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The configuration. The node is never removed.
    Static,
    /// This DNS name and port. The node is removed when the name no longer resolves to its address.
    Dns(String),
    /// The node's announcement. The node is removed after this time, unless it renews the lease.
    Lease(Instant),
}

impl Registry {
    /// Returns a registry of these addresses, for connections with these credentials. A `dns://` address adds
    /// its nodes once discovery has started.
    pub(crate) fn new(
        compressors: &[String],
        decoders: &[String],
        credentials: Credentials,
    ) -> Result<Self, StartError> {
        let (changed, mut members, mut dns_names) = (Arc::<Notify>::default(), Vec::new(), Vec::new());
        for (stage, addresses) in [(Stage::Compressor, compressors), (Stage::Decoder, decoders)] {
            for address in addresses {
                let dns = DnsName::parse(stage, address);
                let url = dns.as_ref().map_or_else(|| address.clone(), |dns| dns.url(&dns.name));
                // For a DNS name, this node only serves to check that HOST:PORT is well-formed.
                let node = Node::new(stage, &url.as_str().into(), &credentials, Arc::clone(&changed))?;
                match dns {
                    Some(dns) => dns_names.push(dns),
                    None => {
                        members.push(Member { node: Arc::new(node), origin: Origin::Static, _checks: None });
                    }
                }
            }
        }
        Ok(Self {
            members: RwLock::new(members),
            dns_names,
            credentials,
            changed,
            refusal_lines: Throttle::new(),
            health_thread: OnceLock::new(),
            unready_stages: watch::Sender::new(Stage::ALL.to_vec()),
        })
    }

    /// Returns the DNS names to resolve.
    pub(crate) fn dns_names(&self) -> &[DnsName] {
        &self.dns_names
    }

    /// Returns whether the CAs of nodes are configured. Nodes that announce themselves must then have a certificate.
    pub(crate) fn has_ca(&self) -> bool {
        self.credentials.has_ca()
    }

    /// Returns a new node without adding it to the registry.
    pub(crate) fn new_node(&self, stage: Stage, address: &NodeAddress<'_>) -> Result<Node, StartError> {
        Node::new(stage, address, &self.credentials, Arc::clone(&self.changed))
    }

    /// Starts the health checks of all members, present and future. They end when `shutdown` is cancelled.
    pub(crate) fn start_health_checks(
        self: &Arc<Self>,
        shutdown: &CancellationToken,
    ) -> Result<&HealthThread, StartError> {
        let started = HealthThread::start(shutdown.clone())?;
        let thread = self.health_thread.get_or_init(|| started);
        self.change(|members| {
            for member in members {
                member._checks = Some(self.check(thread, &member.node));
            }
        });
        Ok(thread)
    }

    fn check(self: &Arc<Self>, thread: &HealthThread, node: &Arc<Node>) -> AbortOnDropHandle<()> {
        let registry = Arc::downgrade(self);
        thread.check(Arc::clone(node), move |node, description| Some(registry.upgrade()?.judge(node, description)))
    }

    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.iter().map(|member| Arc::clone(&member.node)).collect()
    }

    /// Returns the nodes of a stage.
    pub(crate) fn stage(&self, stage: Stage) -> impl Iterator<Item = Arc<Node>> {
        self.nodes().into_iter().filter(move |node| node.stage == stage)
    }

    /// Returns whether a node of the stage is ready.
    pub(crate) fn is_ready(&self, stage: Stage) -> bool {
        self.stage(stage).any(|node| node.is_ready())
    }

    /// Returns a receiver of the stages that have no ready node. [`Self::follow_stages`] updates it.
    pub(crate) fn unready_stages(&self) -> watch::Receiver<Vec<Stage>> {
        self.unready_stages.subscribe()
    }

    /// Publishes the stages that have no ready node. Logs when a stage loses its last ready node, and when it has a
    /// ready node again. Never returns.
    pub(crate) async fn follow_stages(&self) {
        let mut known = Stage::ALL.to_vec();
        loop {
            let look = || {
                let unready = Vec::from_iter(Stage::ALL.into_iter().filter(|&stage| !self.is_ready(stage)));
                (unready != known).then_some(unready)
            };
            let Some(unready) = self.wait_for(Instant::now() + STAGES_INTERVAL, look).await else { continue };
            for stage in Stage::ALL {
                match (known.contains(&stage), unready.contains(&stage)) {
                    (false, true) => tracing::warn!(%stage, "the last ready node is gone: calls wait for another"),
                    (true, false) => tracing::info!(%stage, "a node is ready: the stage serves calls"),
                    _ => {}
                }
            }
            self.unready_stages.send_replace(unready.clone());
            known = unready;
        }
    }

    /// Adds a node, unless one of the same stage and address is a member.
    pub(crate) fn add(self: &Arc<Self>, node: Arc<Node>, origin: Origin) {
        self.change(|members| {
            if !members.iter().any(|member| member.is_at(node.stage, &node.address)) {
                let checks = self.health_thread.get().map(|thread| self.check(thread, &node));
                members.push(Member { node, origin, _checks: checks });
            }
        });
    }

    /// Extends the lease of the node, if the node has one. Returns whether the registry contains the node.
    pub(crate) fn renew(&self, stage: Stage, address: &str, until: Instant) -> bool {
        let mut found = false;
        self.change(|members| {
            let member = members.iter_mut().find(|member| member.is_at(stage, address));
            found = member.is_some();
            if let Some(Member { origin: Origin::Lease(expires), .. }) = member {
                *expires = until;
            }
        });
        found
    }

    /// Removes the nodes of a DNS name that are not at `addresses`, and adds the nodes that are missing. Calls in
    /// flight on removed nodes continue.
    pub(crate) fn set_resolved(self: &Arc<Self>, dns: &DnsName, addresses: &BTreeSet<String>) {
        let (stage, name) = (dns.stage, &dns.name);
        let origin = Origin::Dns(name.clone());
        self.change(|members| {
            let stays = |member: &Member| {
                member.origin != origin || member.node.stage != stage || addresses.contains(&member.node.address)
            };
            for gone in members.extract_if(.., |member| !stays(member)) {
                let address = &gone.node.address;
                tracing::info!(%stage, address, name, "removed a node: its DNS name no longer resolves to it");
            }
        });
        for address in addresses {
            // Cannot fail: an address from DNS is well-formed.
            let address = NodeAddress { url: address, name: Some(dns.host()) };
            if let Ok(node) = self.new_node(stage, &address) {
                self.add(Arc::new(node), origin.clone());
            }
        }
    }

    /// Removes nodes whose lease expired before `now`. Calls in flight on removed nodes continue.
    pub(crate) fn remove_expired(&self, now: Instant) {
        self.change(|members| {
            let expired = |member: &mut Member| matches!(member.origin, Origin::Lease(until) if until < now);
            for gone in members.extract_if(.., expired) {
                let Node { stage, address, .. } = &*gone.node;
                tracing::warn!(%stage, address, "removed a node: it did not renew its announcement");
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Member>)) {
        change(&mut self.members.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
    }

    /// Returns the known cascades, by name, each with the last description of one of its nodes. Nodes that are not
    /// ready count too, but refused nodes do not.
    pub(crate) fn cascades(&self) -> BTreeMap<String, Arc<Description>> {
        let accepted = self.nodes().into_iter().filter(|node| !matches!(node.health(), Health::Refused(_)));
        let infos = accepted.filter_map(|node| node.info());
        infos.map(|info| (info.cascade().name.clone(), info.description)).collect()
    }

    /// Calls `look` now and after each change of the nodes, until `look` returns a value. Returns `None` once
    /// `deadline` has passed.
    pub(crate) async fn wait_for<T>(&self, deadline: Instant, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Enabled before `look` runs, so that a change during `look` is not missed.
            changed.as_mut().enable();
            if let Some(found) = look() {
                return Some(found);
            }
            if timeout_at(deadline, changed).await.is_err() {
                return None;
            }
        }
    }

    /// Returns the health that follows from a node's description. The node is refused if the description contradicts
    /// the configured stage, the limits of the protocol or another ready node; otherwise it is ready.
    pub(crate) fn judge(&self, node: &Node, description: &Description) -> Health {
        let (stage, cascade) = (description.stage, &description.cascade);
        if stage != node.stage {
            return Health::Refused(format!("it is a {stage}: list it under --{stage}"));
        }
        let most = description.shard_bytes_max;
        if stage == Stage::Compressor && most < SHARD_BYTES_MAX as u64 {
            return Health::Refused(format!("it accepts shards of {most} bytes, but {SHARD_BYTES_MAX} are required"));
        }
        if description.arithmetic.len() > ARITHMETIC_BYTES_MAX {
            return Health::Refused(format!("the name of its arithmetic has more than {ARITHMETIC_BYTES_MAX} bytes"));
        }
        let others = self.nodes().into_iter().filter(|other| !std::ptr::eq(other.as_ref(), node));
        let conflict = |other: Arc<Node>| {
            let info = other.ready_info()?;
            conflict(info.cascade(), cascade).map(|problem| format!("{problem} at {}", other.address))
        };
        others.filter_map(conflict).next().map_or(Health::Ready, Health::Refused)
    }
}

impl Member {
    fn is_at(&self, stage: Stage, address: &str) -> bool {
        self.node.stage == stage && self.node.address == address
    }
}

/// Describes how two cascades of the same name differ; `None` if they agree or their names differ.
fn conflict(known: &Cascade, new: &Cascade) -> Option<String> {
    let differs = |stage| {
        let (ours, theirs) = (new.fingerprint(stage), known.fingerprint(stage));
        (ours != theirs).then(|| format!("its cascade `{}` has {stage} {ours}, unlike {stage} {theirs}", known.name))
    };
    let same_name = known.name == new.name;
    same_name.then(|| differs(Stage::Compressor).or_else(|| differs(Stage::Decoder))).flatten()
}

#[cfg(test)]
mod tests {
    use c3_types::{Fingerprint, LatentCodec, RatioRange};

    use super::*;
    use crate::node::NodeInfo;

    /// Returns the description of a node whose cascade has this decoder.
    fn description(stage: Stage, decoder: &[u8]) -> Description {
        Description {
            stage,
            cascade: Cascade {
                name: "c3-mini".to_owned(),
                compressor: Fingerprint::of(b"compressor"),
                decoder: Fingerprint::of(decoder),
            },
            arithmetic: "f32".to_owned(),
            ratios: RatioRange { min: 8, max: 80, default: 20 },
            codec: LatentCodec::Q4_0,
            takes_prompt: false,
            shard_bytes_max: SHARD_BYTES_MAX as u64,
            batch_tokens_max: 1024,
        }
    }

    fn registry() -> Registry {
        let address = |port: u16| format!("127.0.0.1:{port}");
        Registry::new(&[address(1)], &[address(2), address(3)], Credentials::default()).unwrap()
    }

    fn accept(registry: &Registry, index: usize, description: Description) {
        let node = &registry.nodes()[index];
        let health = registry.judge(node, &description);
        node.set_info(NodeInfo { description: Arc::new(description), wire: Arc::default() }, health);
    }

    #[tokio::test]
    async fn a_node_that_conflicts_with_its_cascade_is_refused_until_the_others_are_gone() {
        let registry = registry();
        accept(&registry, 0, description(Stage::Compressor, b"decoder"));
        accept(&registry, 1, description(Stage::Decoder, b"decoder"));
        accept(&registry, 2, description(Stage::Decoder, b"other"));
        let Health::Refused(problem) = registry.nodes()[2].health() else { panic!() };
        for part in [Fingerprint::of(b"decoder").to_string(), Fingerprint::of(b"other").to_string()] {
            assert!(problem.contains(&part), "{problem}");
        }
        assert_eq!(registry.cascades().len(), 1);
        for index in [0, 1] {
            registry.nodes()[index].set_health(Health::Unreachable(String::new()));
        }
        accept(&registry, 2, description(Stage::Decoder, b"other"));
        assert_eq!(registry.nodes()[2].health(), Health::Ready);
    }

    #[tokio::test]
    async fn a_node_in_the_wrong_list_is_refused() {
        let registry = registry();
        accept(&registry, 0, description(Stage::Decoder, b"decoder"));
        let Health::Refused(problem) = registry.nodes()[0].health() else { panic!() };
        assert!(problem.contains("--decoder"), "{problem}");
        assert!(registry.nodes()[0].ready_info().is_none());
    }

    #[tokio::test]
    async fn waiting_for_a_node_ends_when_one_is_ready() {
        let registry = Arc::new(registry());
        let waiting = {
            let registry = Arc::clone(&registry);
            let deadline = Instant::now() + Duration::from_secs(60);
            tokio::spawn(async move {
                let look = || registry.stage(Stage::Decoder).find_map(|node| node.ready_info());
                registry.wait_for(deadline, look).await.is_some()
            })
        };
        tokio::task::yield_now().await;
        accept(&registry, 2, description(Stage::Decoder, b"decoder"));
        assert!(waiting.await.unwrap());
        assert_eq!(registry.wait_for(Instant::now(), || None::<()>).await, None);
    }

    #[tokio::test]
    async fn stages_without_a_ready_node_are_published() {
        let registry = Arc::new(registry());
        let mut unready = registry.unready_stages();
        assert_eq!(*unready.borrow_and_update(), Stage::ALL);
        let followed = Arc::clone(&registry);
        let following = tokio::spawn(async move { followed.follow_stages().await });
        tokio::task::yield_now().await;
        accept(&registry, 0, description(Stage::Compressor, b"decoder"));
        unready.changed().await.unwrap();
        assert_eq!(*unready.borrow_and_update(), [Stage::Decoder]);
        registry.nodes()[0].set_health(Health::NotServing("draining".to_owned()));
        unready.changed().await.unwrap();
        assert_eq!(*unready.borrow_and_update(), Stage::ALL);
        following.abort();
    }
}
