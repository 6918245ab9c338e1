//! The router: the nodes, and queries about the models that they serve.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use c3_tls::{Credentials, PeerIdentity};
use c3_types::{Description, Fingerprint, Invalid, Stage};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backlog::{self, RequestClass, StageLoad, WaitingTokens};
use crate::discovery::{self, Announcement, Registry};
use crate::error::{Error, StartError};
use crate::metrics::Metrics;
use crate::node::{Health, Node, NodeSelector};
use crate::retry::{Attempts, RetryBudget};

/// Maximum nodes or models that an error message lists.
const LISTED_MAX: usize = 5;

/// Addresses of nodes and limits of the calls on them.
#[derive(Clone, Debug)]
pub struct RoutingConfig {
    /// Addresses of compressors: `http://HOST:PORT` or `https://HOST:PORT`; `dns://HOST:PORT`, or `dnss://HOST:PORT`
    /// with TLS, for one node per resolved address.
    pub compressors: Vec<String>,
    /// Addresses of decoders, in the same forms.
    pub decoders: Vec<String>,
    /// Certificate of this gateway and CAs of the nodes.
    pub credentials: Credentials,
    /// Maximum calls in flight on one node. The limit is twice as high for a principal (caller) that has no calls on
    /// the node. Further calls wait.
    pub node_calls_max: Option<usize>,
    /// Maximum wait for a suitable node to become ready.
    pub node_wait: Duration,
    /// Maximum time of one attempt, including its wait in the node's queue. Also the time for which a call is retried
    /// on full nodes.
    pub call_timeout: Duration,
    /// Maximum failed attempts of a call. Refusals by full nodes do not count.
    pub attempts_max: usize,
    /// Expected wait for a node above which new reads are refused. New writes are refused above half of it.
    pub backlog_max: Duration,
}

/// Routes stage calls to nodes.
pub struct Router {
    pub(crate) registry: Arc<Registry>,
    pub(crate) config: RoutingConfig,
    pub(crate) budget: RetryBudget,
    pub(crate) waiting: WaitingTokens,
    pub(crate) metrics: Metrics,
}

impl Router {
    /// Starts discovery and health checks, which end when `shutdown` is cancelled. `role` labels the metrics.
    pub fn start(config: RoutingConfig, role: &'static str, shutdown: &CancellationToken) -> Result<Self, StartError> {
        let registry = Arc::new(Registry::new(&config.compressors, &config.decoders, config.credentials.clone())?);
        discovery::start(&registry, shutdown)?;
        let waiting = WaitingTokens::default();
        let metrics = Metrics::new(role, &registry, &waiting);
        Ok(Self { registry, budget: RetryBudget::full(), waiting, metrics, config })
    }

    /// Returns all nodes.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.registry.nodes()
    }

    /// Returns the maximum wait for a suitable node to become ready.
    pub fn node_wait(&self) -> Duration {
        self.config.node_wait
    }

    /// Returns a receiver of the stages that have no ready node.
    pub fn unready_stages(&self) -> watch::Receiver<Vec<Stage>> {
        self.registry.unready_stages()
    }

    /// Waits up to `node_wait` until each of `stages` has a ready node. Fails with [`Error::NoNode`] for the first
    /// stage that has none. Make this check before reading a caller's text, so that no text is read in vain.
    pub async fn wait_until_ready(&self, stages: &[Stage]) -> Result<(), Error> {
        let unready = || stages.iter().copied().find(|&stage| !self.registry.is_ready(stage));
        let all_ready = || unready().is_none().then_some(());
        match (self.registry.wait_for(self.wait_deadline(), all_ready).await, unready()) {
            (None, Some(stage)) => Err(self.no_node(stage, None, &Attempts::default())),
            _ => Ok(()),
        }
    }

    /// Returns [`Error::Shed`] if a new request of this class must be refused. Background work, which does not wait for
    /// a node, is also refused with [`Error::NoNode`] if no decoder is ready.
    pub fn admit(&self, class: RequestClass) -> Result<(), Error> {
        if class == RequestClass::Background && !self.registry.is_ready(Stage::Decoder) {
            return Err(self.no_node(Stage::Decoder, None, &Attempts::default()));
        }
        backlog::admit(class, &StageLoad::of_all(&self.nodes(), &self.waiting), self.config.backlog_max)
    }

    /// Adds a node that announced itself, or renews its lease. Returns the duration of the lease. `peer` is the
    /// identity of the caller. If the CAs of nodes are configured, it must cover the announced address.
    pub async fn announce(&self, announcement: Announcement, peer: Option<&PeerIdentity>) -> Result<Duration, Error> {
        announcement.accept(peer, &self.registry).await
    }

    /// Returns the description of the cascade `name` or, for `None`, of the only known cascade. Waits up to `node_wait`
    /// until a cascade is known. Errors: [`Error::Invalid`] if the name is unknown, or if it is `None` and several
    /// cascades are known; [`Error::NoNode`] if no cascade is known in time.
    pub async fn cascade(&self, name: Option<&str>) -> Result<Arc<Description>, Error> {
        let mut cascades = self.cascades().await?;
        let found = match name {
            Some(name) => cascades.remove(name),
            None if cascades.len() == 1 => cascades.pop_first().map(|(_, only)| only),
            None => None,
        };
        found.ok_or_else(|| {
            let names = listed(cascades.into_keys());
            let problem = match name {
                Some(name) => format!("`{name}` is not served: choose one of {names}"),
                None => format!("must be one of {names}, because several cascades are served"),
            };
            Invalid::new("cascade", problem).into()
        })
    }

    /// Returns the description of a cascade with this compressor. Looks only at the cascade `name`, or at all cascades
    /// for `None`. Errors: [`Error::WrongModel`] if none has this compressor, and those of [`Self::cascade`].
    pub async fn cascade_of_latents(
        &self,
        name: Option<&str>,
        compressor: Fingerprint,
    ) -> Result<Arc<Description>, Error> {
        let candidates = match name {
            Some(name) => vec![self.cascade(Some(name)).await?],
            None => Vec::from_iter(self.cascades().await?.into_values()),
        };
        let served = listed(candidates.iter().map(|served| served.cascade.compressor.to_string()));
        let found = candidates.into_iter().find(|served| served.cascade.compressor == compressor);
        found.ok_or(Error::WrongModel { stage: Stage::Compressor, given: compressor, served })
    }

    /// Returns the description of every known cascade, by name. Waits up to `node_wait` for a first cascade.
    async fn cascades(&self) -> Result<BTreeMap<String, Arc<Description>>, Error> {
        let known = || Some(self.registry.cascades()).filter(|cascades| !cascades.is_empty());
        let found = self.registry.wait_for(self.wait_deadline(), known).await;
        found.ok_or_else(|| self.no_node(Stage::Compressor, None, &Attempts::default()))
    }

    /// Returns the name of the most common arithmetic (order and precision of computation) of the ready decoders with
    /// this fingerprint. Waits up to `node_wait` for such a decoder.
    pub async fn arithmetic(&self, decoder: Fingerprint) -> Result<String, Error> {
        let selector = NodeSelector { stage: Stage::Decoder, fingerprint: decoder, arithmetic: None, exclude: &[] };
        let most_common = || {
            let matching = self.registry.stage(Stage::Decoder).filter(|node| selector.matches(node));
            let mut names: Vec<String> =
                matching.filter_map(|node| Some(node.ready_info()?.description.arithmetic.clone())).collect();
            names.sort_unstable();
            let counted = names.chunk_by(|a, b| a == b);
            // A tie goes to the first name in sort order. If a text is stored again, the choice is thus the same, and
            // the text reuses its stored corrections.
            counted.rev().max_by_key(|equal| equal.len()).map(|equal| equal[0].clone())
        };
        let found = self.registry.wait_for(self.wait_deadline(), most_common).await;
        found.ok_or_else(|| self.call_error(&selector, &Attempts::default()))
    }

    /// Returns whether a ready node matches the selector and is not excluded by it.
    pub fn has_ready(&self, selector: &NodeSelector<'_>) -> bool {
        self.registry.stage(selector.stage).any(|node| selector.matches(&node) && !selector.excludes(&node))
    }

    /// Returns whether waiting for a node is pointless, because the stage has nodes, and all of them are ready and
    /// serve another model.
    pub(crate) fn all_serve_another_model(&self, selector: &NodeSelector<'_>) -> bool {
        let other = |node: Arc<Node>| {
            node.ready_info().is_some_and(|info| info.cascade().fingerprint(selector.stage) != selector.fingerprint)
        };
        let mut nodes = self.registry.stage(selector.stage).peekable();
        nodes.peek().is_some() && nodes.all(other)
    }

    pub(crate) fn wait_deadline(&self) -> Instant {
        Instant::now() + self.config.node_wait
    }

    /// Returns the error for a call that no node answered.
    pub(crate) fn call_error(&self, selector: &NodeSelector<'_>, attempts: &Attempts) -> Error {
        let stage = selector.stage;
        if attempts.failed.is_empty() && self.all_serve_another_model(selector) {
            let ready = self.registry.stage(stage).filter_map(|node| node.ready_info());
            let served = ready.map(|info| info.cascade().fingerprint(stage).to_string());
            let served = listed(BTreeSet::from_iter(served));
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
        let tried = match self.registry.stage(stage).next() {
            Some(_) => self.tried(stage, attempts),
            None => format!("nothing, because no address is known: use --{stage}, or let a node announce itself"),
        };
        Error::NoNode { wanted, tried }
    }

    /// Lists the addresses of a stage, each with the reason why its node did not answer.
    fn tried(&self, stage: Stage, attempts: &Attempts) -> String {
        let describe = |node: Arc<Node>| {
            let failure = attempts.failed.iter().rfind(|(failed, _)| Arc::ptr_eq(failed, &node));
            let error = match (failure, node.health()) {
                (Some((_, error)), _) => error.clone(),
                (None, Health::Ready) => "not called: it does not suit the request, or no attempt was left".to_owned(),
                (None, Health::Unreachable(error) | Health::NotServing(error) | Health::Refused(error)) => error,
            };
            format!("{} ({error})", node.address)
        };
        listed(self.registry.stage(stage).map(describe))
    }
}

/// Joins the first [`LISTED_MAX`] of the items, and counts the others.
fn listed(items: impl IntoIterator<Item = String>) -> String {
    let mut items = items.into_iter();
    let first = Vec::from_iter(items.by_ref().take(LISTED_MAX)).join(", ");
    match items.count() {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use c3_server::ServiceError;

    use super::*;

    fn router() -> Router {
        let config = RoutingConfig {
            compressors: Vec::new(),
            decoders: Vec::new(),
            credentials: Credentials::default(),
            node_calls_max: Some(1),
            node_wait: Duration::from_millis(10),
            call_timeout: Duration::from_secs(1),
            attempts_max: 1,
            backlog_max: Duration::from_secs(1),
        };
        // Discovery is not started, so nothing changes.
        let registry =
            Arc::new(Registry::new(&config.compressors, &config.decoders, config.credentials.clone()).unwrap());
        let waiting = WaitingTokens::default();
        let metrics = Metrics::new("router-test", &registry, &waiting);
        Router { registry, budget: RetryBudget::full(), waiting, metrics, config }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_without_nodes_lacks_a_node_and_serves_no_other_model() {
        let router = router();
        let decoder = Fingerprint::of(b"decoder");
        for error in [router.wait_until_ready(&Stage::ALL).await, router.arithmetic(decoder).await.map(drop)] {
            let error = error.unwrap_err();
            assert!(matches!(error, Error::NoNode { .. }), "{error}");
            assert!(error.to_string().contains("use --"), "{error}");
            let pushback = error.status().metadata().get("grpc-retry-pushback-ms").cloned();
            assert_eq!(pushback.unwrap(), "-1", "clients must not repeat the wait");
        }
        let selector = NodeSelector { stage: Stage::Decoder, fingerprint: decoder, arithmetic: None, exclude: &[] };
        let admitted = [RequestClass::Read, RequestClass::Background].map(|class| router.admit(class).is_ok());
        assert_eq!(admitted, [true, false]);
        let called = router.call(selector, "Decode", 1, async |_| Ok(())).await;
        assert!(matches!(called, Err(Error::NoNode { .. })));
    }
}
