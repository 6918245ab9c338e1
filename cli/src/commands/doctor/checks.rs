//! The checks of `c3 doctor`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use c3_cascade::{Compressor, Decoder, Options, Source};
use c3_client::{Client, ListQuery, MetricsPage, pb};
use futures::StreamExt;
use indicatif::HumanBytes;

use super::Check;
use crate::args::{ModelArgs, RemoteArgs};
use crate::error::CliError;
use crate::metrics::Samples;
use crate::profile;

/// Version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Difference of clocks that deserves attention, and the one at which tokens and signatures of requests to object
/// stores become invalid. The gateway tells its time in whole seconds.
const CLOCK_WARNING: Duration = Duration::from_secs(5);
const CLOCK_LIMIT: Duration = Duration::from_secs(60);
/// Fractions of the store's file system that are free when it deserves attention, and when writes will soon fail.
const DISK_WARNING: f64 = 0.15;
const DISK_LIMIT: f64 = 0.03;

/// Checks that the configuration file is valid. The command line has been parsed with it already.
pub(super) fn configuration(remote: &RemoteArgs) -> Check {
    const NAME: &str = "configuration";
    let gateway = format!("gateway {}", remote.url());
    match profile::path() {
        Ok(path) if path.is_file() => Check::ok(NAME, format!("{}; {gateway}", path.display())),
        Ok(_) => Check::ok(NAME, format!("no configuration file; {gateway}")),
        Err(error) => Check::warning(NAME, error, "set HOME or XDG_CONFIG_HOME"),
    }
}

/// Loads both stages of the model that `c3 serve` and `c3 roundtrip` would run.
pub(super) async fn model(args: &ModelArgs) -> Check {
    const NAME: &str = "model";
    let loaded = async {
        let config: c3_compressor_node::Config = args.node_config()?;
        let Some(folder) = config.node.model else { return Ok("built into this program".to_owned()) };
        let load = tokio::task::spawn_blocking(move || load(&folder, &config.options));
        load.await.map_err(|error| CliError::Failed(error.to_string()))?
    };
    match loaded.await {
        Ok(found) => Check::ok(NAME, found),
        Err(error) => Check::failed(NAME, error, "give the folder of a complete model with --model, or none"),
    }
}

fn load(folder: &Path, options: &Options) -> Result<String, CliError> {
    let failed = |error: c3_cascade::Error| CliError::Failed(error.to_string());
    let compressor = Compressor::load(Source::Folder(folder), options).map_err(failed)?;
    Decoder::load(Source::Folder(folder), options).map_err(failed)?;
    let info = compressor.info();
    Ok(format!("{} loads on {} ({})", info.cascade, info.device, info.arithmetic))
}

/// State of a gateway that was reached.
pub(super) struct Gateway {
    access: Result<(), c3_client::Error>,
    nodes: Result<Vec<pb::Node>, c3_client::Error>,
    metrics: Result<(MetricsPage, Samples), c3_client::Error>,
    now: SystemTime,
}

impl Gateway {
    /// Names of [`Self::checks`].
    pub(super) const CHECKS: [&str; 7] = ["access", "compressors", "decoders", "cascades", "clock", "disk", "versions"];

    /// Connects and reads the state. Also returns the check that the gateway answers.
    pub(super) async fn connect(remote: &RemoteArgs) -> Result<(Self, Check), Check> {
        const NAME: &str = "gateway";
        let started = Instant::now();
        let client = remote
            .connect()
            .await
            .map_err(|error| Check::failed(NAME, error, "check --gateway, C3_GATEWAY and the profile"))?;
        let elapsed = started.elapsed().as_secs_f64();
        let check = Check::ok(NAME, format!("{} answers in {:.0} ms", remote.url(), 1e3 * elapsed));
        Ok((Self::read(&client).await, check))
    }

    async fn read(client: &Client) -> Self {
        let query = ListQuery { page_size: 1, ..ListQuery::default() };
        let access = client.list_where(&query).next().await.transpose().map(drop);
        let metrics = client.metrics().await.map(|page| {
            let samples = Samples::parse(&page.text);
            (page, samples)
        });
        let now = SystemTime::now();
        Self { access, nodes: client.nodes().await, metrics, now }
    }

    pub(super) fn checks(&self) -> [Check; 7] {
        [
            self.access(),
            self.stage("compressors", pb::Stage::Compressor),
            self.stage("decoders", pb::Stage::Decoder),
            self.cascades(),
            self.clock(),
            self.disk(),
            self.versions(),
        ]
    }

    fn access(&self) -> Check {
        match &self.access {
            Ok(()) => Check::ok("access", "documents can be listed"),
            Err(error) => Check::failed(
                "access",
                error,
                "give an API key with the scope read with --api-key-file or C3_API_KEY; `c3 key create` makes one",
            ),
        }
    }

    fn nodes(&self) -> &[pb::Node] {
        self.nodes.as_deref().unwrap_or_default()
    }

    fn stage(&self, name: &'static str, stage: pb::Stage) -> Check {
        if let Err(error) = &self.nodes {
            return Check::skipped(name, error, "give an API key with the scope read");
        }
        let nodes = Vec::from_iter(self.nodes().iter().filter(|node| node.stage() == stage));
        let is_ready = |node: &&&pb::Node| node.state() == pb::NodeState::Ready;
        let detail = format!("{} of {} ready", nodes.iter().filter(is_ready).count(), nodes.len());
        let broken = nodes.iter().find(|node| !is_ready(node));
        let problem = broken.map(|node| format!("{}: {}", node.address, node.problem));
        match (nodes.iter().any(|node| is_ready(&node)), problem) {
            (true, None) => Check::ok(name, detail),
            (true, Some(problem)) => Check::warning(name, format!("{detail}; {problem}"), "start or remove the node"),
            (false, problem) => {
                let problem = problem.map_or_else(String::new, |problem| format!("; {problem}"));
                let program = if stage == pb::Stage::Decoder { "decoder-node" } else { "compressor-node" };
                Check::failed(name, detail + &problem, format!("start `{program}`; its log says why it is not ready"))
            }
        }
    }

    /// Checks that each cascade has nodes of both stages with the same fingerprints.
    fn cascades(&self) -> Check {
        const NAME: &str = "cascades";
        let cascades = |stage: pb::Stage| {
            let nodes = self.nodes().iter().filter(move |node| node.stage() == stage);
            let cascades = nodes.filter_map(|node| node.description.as_ref()?.cascade.clone());
            let key = |cascade: pb::Cascade| {
                (cascade.name, cascade.compressor_fingerprint.to_vec(), cascade.decoder_fingerprint.to_vec())
            };
            BTreeSet::from_iter(cascades.map(key))
        };
        let (compressors, decoders) = (cascades(pb::Stage::Compressor), cascades(pb::Stage::Decoder));
        let all = Vec::from_iter(compressors.union(&decoders).map(|cascade| cascade.0.as_str()));
        match compressors.symmetric_difference(&decoders).next() {
            _ if all.is_empty() => Check::skipped(NAME, "no node has described its model", ""),
            None => Check::ok(NAME, all.join(", ")),
            Some((name, ..)) => Check::warning(
                NAME,
                format!("only one stage serves this version of {name}"),
                "give compressor and decoder nodes the files of the same model",
            ),
        }
    }

    fn metrics(&self, name: &'static str) -> Result<&(MetricsPage, Samples), Check> {
        self.metrics.as_ref().map_err(|error| Check::skipped(name, error, "give an API key with the scope admin"))
    }

    fn clock(&self) -> Check {
        const NAME: &str = "clock";
        let page = match self.metrics(NAME) {
            Ok((page, _)) => page,
            Err(skipped) => return skipped,
        };
        let Some(date) = page.date else { return Check::skipped(NAME, "the gateway does not tell its time", "") };
        let difference = self.now.duration_since(date).unwrap_or_else(|ahead| ahead.duration());
        let detail = format!("differs from the gateway's by {} s", difference.as_secs());
        let advice = "synchronise the clocks of both machines, for example with chrony";
        match difference {
            difference if difference < CLOCK_WARNING => Check::ok(NAME, detail),
            difference if difference < CLOCK_LIMIT => Check::warning(NAME, detail, advice),
            _ => Check::failed(NAME, detail, advice),
        }
    }

    fn disk(&self) -> Check {
        const NAME: &str = "disk";
        let samples = match self.metrics(NAME) {
            Ok((_, samples)) => samples,
            Err(skipped) => return skipped,
        };
        let bytes = |name| samples.sum(name, &[]);
        let (Some(free), Some(capacity)) = (bytes("c3_store_free_bytes"), bytes("c3_store_capacity_bytes")) else {
            return Check::skipped(NAME, "the store is not a local folder", "");
        };
        let share = if capacity > 0.0 { free / capacity } else { 0.0 };
        let detail = format!("{} of {} free", HumanBytes(free as u64), HumanBytes(capacity as u64));
        let advice = "delete documents and run `c3 gc`, or move --data to a larger disk";
        match share {
            share if share >= DISK_WARNING => Check::ok(NAME, detail),
            share if share >= DISK_LIMIT => Check::warning(NAME, detail, advice),
            _ => Check::failed(NAME, detail, advice),
        }
    }

    fn versions(&self) -> Check {
        const NAME: &str = "versions";
        let described = self.nodes().iter().filter_map(|node| node.description.as_ref());
        let mut versions = BTreeSet::from_iter(described.map(|node| node.version.clone()));
        if let Ok((_, samples)) = self.metrics(NAME) {
            versions.extend(samples.by_label("c3_build_info", "version").into_keys());
        }
        versions.insert(VERSION.to_owned());
        let detail = Vec::from_iter(versions.iter().map(String::as_str)).join(", ");
        match versions.len() {
            1 => Check::ok(NAME, detail),
            _ => Check::warning(
                NAME,
                format!("this program has {VERSION}; found {detail}"),
                "install the same version everywhere",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use c3_client::RetryRequest;
    use tonic::Code;

    use super::super::State;
    use super::*;

    fn node(stage: pb::Stage, state: pb::NodeState, cascade: &str, version: &str) -> pb::Node {
        let cascade = pb::Cascade { name: cascade.to_owned(), ..pb::Cascade::default() };
        let description =
            pb::DescribeResponse { cascade: Some(cascade), version: version.to_owned(), ..Default::default() };
        pb::Node {
            address: "http://n:1".to_owned(),
            stage: stage.into(),
            state: state.into(),
            problem: if state == pb::NodeState::Ready { String::new() } else { "loading".to_owned() },
            description: Some(description),
            ..pb::Node::default()
        }
    }

    fn gateway(nodes: Vec<pb::Node>, metrics: &str, clock: Duration) -> Gateway {
        let now = SystemTime::now();
        let page = MetricsPage { text: metrics.to_owned(), date: Some(now - clock) };
        let samples = Samples::parse(metrics);
        Gateway { access: Ok(()), nodes: Ok(nodes), metrics: Ok((page, samples)), now }
    }

    fn states(gateway: &Gateway) -> Vec<State> {
        let checks = gateway.checks();
        for check in &checks {
            let needs_advice = matches!(check.state, State::Warning | State::Failed);
            assert!(!needs_advice || !check.advice.is_empty(), "{check:?}");
        }
        assert_eq!(checks.each_ref().map(|check| check.name), Gateway::CHECKS);
        checks.into_iter().map(|check| check.state).collect()
    }

    #[test]
    fn a_healthy_gateway_passes_all_checks() {
        let nodes = [pb::Stage::Compressor, pb::Stage::Decoder];
        let nodes = nodes.map(|stage| node(stage, pb::NodeState::Ready, "c3-mini", VERSION)).to_vec();
        let metrics = format!(
            "c3_store_free_bytes 50\nc3_store_capacity_bytes 100\nc3_build_info{{version=\"{VERSION}\",role=\"x\"}} 1"
        );
        assert_eq!(states(&gateway(nodes, &metrics, Duration::from_secs(1))), [State::Ok; 7]);
    }

    #[test]
    fn each_problem_is_found() {
        let nodes = vec![
            node(pb::Stage::Compressor, pb::NodeState::Ready, "c3-mini", "0.0.1"),
            node(pb::Stage::Decoder, pb::NodeState::NotServing, "other", VERSION),
        ];
        let metrics = "c3_store_free_bytes 1\nc3_store_capacity_bytes 100";
        let found = states(&gateway(nodes, metrics, Duration::from_secs(3600)));
        use State::{Failed, Ok, Warning};
        assert_eq!(found, [Ok, Ok, Failed, Warning, Failed, Failed, Warning]);
    }

    #[test]
    fn a_refused_key_fails_the_access_and_skips_the_rest() {
        let refusal = || c3_client::Error::Call {
            code: Code::Unauthenticated,
            message: "no key".to_owned(),
            retry: RetryRequest::None,
        };
        let refused =
            Gateway { access: Err(refusal()), nodes: Err(refusal()), metrics: Err(refusal()), now: SystemTime::now() };
        let found = states(&refused);
        assert_eq!((found[0], found[1], found[4]), (State::Failed, State::Skipped, State::Skipped));
    }
}
