//! Exposed metrics, spans and resource attributes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use c3_proto::pb::{self, NodeState};

use crate::harness::certificates::Certificates;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::fixtures;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::harness::otlp::Receiver;
use crate::harness::process::{Launch, Program, free_address};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;
use crate::suites::store::ops;

/// Names of the measurements in this module.
pub const ROWS: &[&str] = &["metrics-table", "trace-identity"];

/// Document with the table of metrics.
const TABLE: &str = "docs/reference/metrics.md";
/// Maximum number of times that a decoder is killed to make the gateway retry a call.
const KILLS_MAX: usize = 5;
/// Maximum time until spans arrive, or until a node that announces itself is known.
const LIMIT: Duration = Duration::from_secs(60);
/// Service name that the traced `c3` is given.
const GIVEN_NAME: &str = "books";

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str) -> Result<Vec<Quantity>> {
    match row {
        "metrics-table" => table().await,
        "trace-identity" => identity().await,
        row => bail!("no measurement is named `{row}`"),
    }
}

/// Type and labels of each metric.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// Compares the documented table of metrics with the metrics that each program serves; both must list the same. Before
/// that, makes the programs do everything that the metrics count.
pub async fn table() -> Result<Vec<Quantity>> {
    // With certificates, since there are metrics of TLS.
    let certificates = Some(Arc::new(Certificates::init().await?));
    let mut cluster = ClusterSpec { decoders: 2, certificates, ..ClusterSpec::default() }.start().await?;
    let api = cluster.api()?;
    let stored = api.put(fixtures::text("chapter.txt")?.as_bytes(), ops::default_options()).await?;
    let id = id_of(&stored.document.context("no document")?);
    ops::sweep(&api, 3600).await?;
    api.stub().start_reindex(pb::StartReindexRequest {}).await?;
    // Calls that fail are counted too: on the gateway the document does not exist, and on the nodes the method does not
    // exist.
    for process in [&cluster.gateway, &cluster.compressors[0], &cluster.decoders[0]] {
        ensure!(GatewayApi::to(process)?.stat(&"0".repeat(64)).await.is_err(), "a missing document was found");
    }
    retry(&mut cluster, &id).await?;
    // This put makes the remaining decoder verify a text.
    api.put(fixtures::text("page.txt")?.as_bytes(), ops::default_options()).await?;

    let dead = format!(r#"node="{}""#, cluster.address(2));
    let page = cluster.gateway.metrics().await?;
    let ready = samples(&page, "c3_node_ready").filter(|line| line.contains(&dead)).map(value);
    let mut quantities = vec![
        Quantity::equal("metrics-nodes", samples(&page, "c3_node_ready").count(), cluster.nodes()),
        Quantity::equal("metrics-dead-node-ready", ready.collect(), vec![0.0]),
        Quantity::at_least("metrics-retries", samples(&page, "c3_retries_total").map(value).sum(), 1.0),
        Quantity::at_least("metrics-store-bytes", samples(&page, "c3_store_bytes").map(value).sum(), 1.0),
    ];
    let documented = fs::read_to_string(fixtures::root().join(TABLE))?;
    let programs = [("gateway", &cluster.gateway), ("compressor", &cluster.compressors[0])];
    for (role, process) in programs.into_iter().chain([("decoder", &cluster.decoders[0])]) {
        let (documented, served) = (documented_metrics(&documented, role), served_metrics(&process.metrics().await?));
        let differ = |a: &Metrics, b: &Metrics, only: &str| {
            let differing = a.iter().filter(|(name, metric)| b.get(*name) != Some(metric));
            Vec::from_iter(differing.map(|(name, (kind, labels))| format!("{only}: {kind} {name} {labels:?}")))
        };
        let mut differences = differ(&documented, &served, "documented");
        differences.extend(differ(&served, &documented, "served"));
        quantities.push(Quantity::equal(format!("metrics-table-{role}"), differences, Vec::new()));
    }
    Ok(quantities)
}

/// Traces a roundtrip on an otherwise idle cluster; the spans must tell the processes apart, and must not include
/// periodic calls. Periodic calls are the gateway's health checks of the nodes, and the announcements of a node.
pub async fn identity() -> Result<Vec<Quantity>> {
    let receiver = Receiver::start().await?;
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url()), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let env = Vec::from(env.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let spec = ClusterSpec { env: env.clone(), ..ClusterSpec::with_gateway_args(&["--accept-nodes"]) };
    let cluster = spec.start().await?;
    let folder = tempfile::TempDir::with_prefix("c3-identity-")?;
    let address = free_address()?;
    let announces = ["--announce-to", &cluster.gateway.url(), "--advertise-as", &format!("http://{address}")];
    let node = Launch::new(Program::CompressorNode).arg("--model").arg(fixtures::default_model()).args(announces);
    let node = env.iter().fold(node, |node, (name, value)| node.env(name, value));
    let _node = node.args(["--listen", &address]).spawn(folder.path(), address.clone()).await?;
    let api = cluster.api()?;
    until("a node to announce itself", LIMIT, async || {
        let nodes = api.nodes().await.ok()?;
        (nodes.iter().filter(|node| node.state() == NodeState::Ready).count() == 3).then_some(())
    })
    .await?;

    let page = fixtures::root().join("tests/fixtures/texts/page.txt");
    let c3 = Launch::new(Program::C3).args(["roundtrip", "--gateway", &cluster.gateway.url()]).arg(page);
    let c3 = env.into_iter().fold(c3, |c3, (name, value)| c3.env(name, value));
    let output = c3.env("OTEL_SERVICE_NAME", GIVEN_NAME).output().await?;
    ensure!(output.status.success(), "c3 failed: {}", String::from_utf8_lossy(&output.stderr));
    let all = BTreeSet::from([GIVEN_NAME, "c3-compressor", "c3-decoder", "c3-gateway"].map(str::to_owned));
    let services = || BTreeSet::from_iter(receiver.spans().into_iter().map(|span| span.service));
    // If spans are missing, the quantities below show it. A program exports its spans in order, so once a span has
    // arrived, all earlier spans of its program have arrived too.
    let _ = until("spans of all programs", LIMIT, async || all.is_subset(&services()).then_some(())).await;
    let spans = receiver.spans();
    let is_periodic = |name: &str| name.ends_with("/Describe") || name.ends_with("/Announce");
    let instances = BTreeSet::from_iter(spans.iter().map(|span| (&span.service, &span.instance)));
    let distinct = BTreeSet::from_iter(instances.iter().map(|(_, id)| *id).filter(|id| !id.is_empty()));
    Ok(vec![
        Quantity::equal("trace-periodic-spans", spans.iter().filter(|span| is_periodic(&span.name)).count(), 0),
        Quantity::equal("trace-services", services(), all),
        Quantity::equal("trace-instances", distinct.len(), instances.len()),
    ])
}

/// Kills the cluster's second decoder and reads a document, again and again, until the gateway has retried a call. The
/// decoder is dead afterwards.
async fn retry(cluster: &mut Cluster, id: &str) -> Result<()> {
    const DECODER: usize = 2;
    for _ in 0..KILLS_MAX {
        cluster.node(DECODER).kill()?;
        // The gateway retries the call on the other decoder, unless a health check has already found that this one is
        // dead.
        cluster.api()?.get(id).await?;
        if samples(&cluster.gateway.metrics().await?, "c3_retries_total").next().is_some() {
            return until("the decoder to be unready", LIMIT, async || {
                let nodes = cluster.api().ok()?.nodes().await.ok()?;
                (nodes.iter().filter(|node| node.state() != NodeState::Ready).count() == 1).then_some(())
            })
            .await;
        }
        cluster.restart_node(DECODER).await?;
        cluster.wait_until_ready().await?;
    }
    // No call was retried. The quantities of `table` show that the metric is missing.
    cluster.node(DECODER).kill()
}

/// Returns the metrics that the table lists for a role.
fn documented_metrics(document: &str, role: &str) -> Metrics {
    let serves = |servers: &str| match servers {
        "all" => true,
        "nodes" => role != "gateway",
        servers => servers.split(", ").any(|server| server == role),
    };
    let rows = document.lines().map(|line| Vec::from_iter(line.trim_matches('|').split('|').map(str::trim)));
    let rows = rows.filter_map(|cells| <[&str; 5]>::try_from(cells).ok());
    let rows = rows.filter(|[name, .., servers]| name.starts_with('`') && serves(servers));
    let metrics = rows.map(|[name, kind, labels, ..]| {
        let name = name.trim_matches('`');
        let labels = labels.split(", ").map(|label| label.trim_matches('`')).filter(|label| !label.is_empty());
        let role = (name != "c3_build_info" && !name.starts_with("process_")).then_some("role");
        let labels = labels.chain(role).map(str::to_owned).collect();
        (name.to_owned(), (kind.to_owned(), labels))
    });
    metrics.collect()
}

/// Returns the metrics of a page in Prometheus' text format.
fn served_metrics(page: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for (name, kind) in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let series = if kind == "histogram" { format!("{name}_count") } else { name.to_owned() };
        let labels = samples(page, &series).flat_map(labels).map(str::to_owned).collect();
        metrics.insert(name.to_owned(), (kind.to_owned(), labels));
    }
    metrics
}

/// Returns the lines of the series of a metric.
fn samples<'a>(page: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    page.lines().filter(move |line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
}

/// Returns the names of the labels of a sample.
fn labels(sample: &str) -> impl Iterator<Item = &str> {
    let labels = sample.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
    labels.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0))
}

/// Returns the value of a sample.
fn value(sample: &str) -> f64 {
    sample.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
}
