//! The router: the nodes, and queries about the models that they serve.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use c3_types::{Description, Fingerprint, Invalid, Stage};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::discovery::{self, Announcement, Registry};
use crate::error::{Error, StartError};
use crate::load_shed::{LoadShedder, RequestClass};
use crate::metrics::Metrics;
use crate::node::{Health, Node, NodeSelector};
use crate::retry::{Attempts, RetryBudget};

/// Addresses of nodes and limits of the calls on them.
#[derive(Clone, Debug)]
pub struct RoutingConfig {
    /// Addresses of compressors: `http://HOST:PORT`, or `dns://HOST:PORT` for one node at each address of the name.
    pub compressors: Vec<String>,
    /// Addresses of decoders.
    pub decoders: Vec<String>,
    /// Maximum calls in flight on one node. Further calls wait in the gateway.
    pub node_calls_max: usize,
    /// Maximum wait for a suitable node to become ready.
    pub node_wait: Duration,
    /// Maximum time of one attempt, including its wait in the node's queue.
    pub call_timeout: Duration,
    /// Maximum attempts of a call.
    pub attempts_max: usize,
    /// Maximum text tokens waiting for nodes. New reads above it and new writes above half of it are shed.
    pub waiting_tokens_max: u64,
}

/// Routes stage calls to nodes.
pub struct Router {
    pub(crate) registry: Arc<Registry>,
    pub(crate) config: RoutingConfig,
    pub(crate) budget: RetryBudget,
    pub(crate) shedder: LoadShedder,
    pub(crate) metrics: Metrics,
}

impl Router {
    /// Starts discovery and health checks, which end at `shutdown`. `role` labels the metrics.
    pub fn start(config: RoutingConfig, role: &'static str, shutdown: &CancellationToken) -> Result<Self, StartError> {
        let registry = Arc::new(Registry::new(&config.compressors, &config.decoders)?);
        discovery::start(&registry, shutdown)?;
        Ok(Self {
            registry,
            budget: RetryBudget::full(),
            shedder: LoadShedder::new(config.waiting_tokens_max),
            metrics: Metrics::new(role),
            config,
        })
    }

    /// Returns all nodes.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.registry.nodes()
    }

    /// Returns [`Error::Shed`] if a new request of this class must be refused.
    pub fn admit(&self, class: RequestClass) -> Result<(), Error> {
        self.shedder.admit(class)
    }

    /// Adds a node that announced itself, or renews its lease. Returns the time for which the lease is valid.
    pub async fn announce(&self, announcement: Announcement) -> Result<Duration, Error> {
        announcement.accept(&self.registry).await
    }

    /// Returns the description of a cascade by its name, or of the only one that is served.
    pub async fn cascade(&self, name: Option<&str>) -> Result<Arc<Description>, Error> {
        let mut cascades = self.cascades().await?;
        let found = match name {
            Some(name) => cascades.remove(name),
            None if cascades.len() == 1 => cascades.pop_first().map(|(_, only)| only),
            None => None,
        };
        found.ok_or_else(|| {
            let names = Vec::from_iter(cascades.into_keys()).join(", ");
            let problem = match name {
                Some(name) => format!("`{name}` is not served: choose one of {names}"),
                None => format!("is required, since several are served: {names}"),
            };
            Invalid::new("cascade", problem).into()
        })
    }

    /// Returns the description of a cascade, by name or any, whose compressor has this fingerprint.
    pub async fn cascade_of_latents(
        &self,
        name: Option<&str>,
        compressor: Fingerprint,
    ) -> Result<Arc<Description>, Error> {
        let candidates = match name {
            Some(name) => vec![self.cascade(Some(name)).await?],
            None => Vec::from_iter(self.cascades().await?.into_values()),
        };
        let served = Vec::from_iter(candidates.iter().map(|served| served.cascade.compressor.to_string()));
        let found = candidates.into_iter().find(|served| served.cascade.compressor == compressor);
        found.ok_or_else(|| Error::WrongModel {
            stage: Stage::Compressor,
            given: compressor,
            served: served.join(", "),
        })
    }

    /// Returns the description of every cascade seen so far, by name. Waits for the first.
    async fn cascades(&self) -> Result<BTreeMap<String, Arc<Description>>, Error> {
        let known = || Some(self.registry.cascades()).filter(|cascades| !cascades.is_empty());
        let found = self.registry.wait_for(self.wait_deadline(), known).await;
        found.ok_or_else(|| self.no_node(Stage::Compressor, None, &Attempts::default()))
    }

    /// Returns the arithmetic of most of the ready decoders with this fingerprint.
    pub async fn arithmetic(&self, decoder: Fingerprint) -> Result<String, Error> {
        let selector = NodeSelector { stage: Stage::Decoder, fingerprint: decoder, arithmetic: None, exclude: &[] };
        let most_common = || {
            let matching = self.registry.stage(Stage::Decoder).filter(|node| selector.matches(node));
            let mut names: Vec<String> =
                matching.filter_map(|node| Some(node.ready_info()?.description.arithmetic.clone())).collect();
            names.sort_unstable();
            let counted = names.chunk_by(|a, b| a == b);
            // Ties go to the first name, so that a text stored again finds its corrections.
            counted.rev().max_by_key(|equal| equal.len()).map(|equal| equal[0].clone())
        };
        let found = self.registry.wait_for(self.wait_deadline(), most_common).await;
        found.ok_or_else(|| self.call_error(&selector, &Attempts::default()))
    }

    /// Returns whether all nodes of the stage are ready and serve another model, so that waiting cannot help.
    pub(crate) fn all_serve_another_model(&self, selector: &NodeSelector<'_>) -> bool {
        let other = |node: Arc<Node>| {
            node.ready_info().is_some_and(|info| info.cascade().fingerprint(selector.stage) != selector.fingerprint)
        };
        self.registry.stage(selector.stage).all(other)
    }

    pub(crate) fn wait_deadline(&self) -> Instant {
        Instant::now() + self.config.node_wait
    }

    /// Returns the error of a call that no node answered.
    pub(crate) fn call_error(&self, selector: &NodeSelector<'_>, attempts: &Attempts) -> Error {
        let stage = selector.stage;
        if attempts.failed.is_empty() && self.all_serve_another_model(selector) {
            let ready = self.registry.stage(stage).filter_map(|node| node.ready_info());
            let served = ready.map(|info| info.cascade().fingerprint(stage).to_string());
            let served = Vec::from_iter(served).join(", ");
            return Error::WrongModel { stage, given: selector.fingerprint, served };
        }
        if attempts.all_timed_out() {
            return Error::DeadlineExceeded { stage, tried: self.tried(stage, attempts) };
        }
        self.no_node(stage, selector.arithmetic, attempts)
    }

    fn no_node(&self, stage: Stage, arithmetic: Option<&str>, attempts: &Attempts) -> Error {
        let wanted = match arithmetic {
            Some(arithmetic) => format!("{stage} with arithmetic {arithmetic}"),
            None => stage.to_string(),
        };
        Error::NoNode { wanted, tried: self.tried(stage, attempts) }
    }

    /// Lists every address of a stage with its last error.
    fn tried(&self, stage: Stage, attempts: &Attempts) -> String {
        let describe = |node: Arc<Node>| {
            let failure = attempts.failed.iter().rfind(|(failed, _)| Arc::ptr_eq(failed, &node));
            let error = match (failure, node.health()) {
                (Some((_, error)), _) => error.clone(),
                (None, Health::Ready) => "not called: it does not match, or no attempt was left".to_owned(),
                (None, Health::Unreachable(error) | Health::NotServing(error) | Health::Refused(error)) => error,
            };
            format!("{} ({error})", node.address)
        };
        Vec::from_iter(self.registry.stage(stage).map(describe)).join(", ")
    }
}
