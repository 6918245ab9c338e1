//! Waits for nodes, and health while a stage has no node.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use c3_client::{ByteRange, Client, WriteOptions};
use c3_proto::pb::registry_client::RegistryClient;
use c3_proto::pb::{AnnounceRequest, NodeState};
use futures::TryStreamExt;
use tempfile::{NamedTempFile, TempDir};
use tokio::task::spawn_blocking;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::process::{Launch, Process, Program};
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Names of the measurements in this module.
pub const ROWS: &[&str] = &["wait-bounded-once", "wait-without-address", "health-of-stages"];

/// Default of the gateway's `--node-wait`, the only setting that bounds a wait for a node, in seconds.
const NODE_WAIT: f64 = 10.0;
/// Margin above [`NODE_WAIT`] for a busy machine, in seconds.
const MARGIN: f64 = 4.0;
/// Maximum time until a command tells the user what it waits for, in seconds.
const NOTICE_MAX: f64 = 2.0;
/// Maximum time until the gateway notices that a node died or came back.
const NOTICED_LIMIT: Duration = Duration::from_secs(15);
/// Maximum time until all reports of the gateway's health agree, once one of them has changed.
const SETTLE_LIMIT: Duration = Duration::from_secs(3);
const TEXT: &str = "A text that needs a node of each stage. ";

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str) -> Result<Vec<Quantity>> {
    match row {
        "wait-bounded-once" => bounded_once().await,
        "wait-without-address" => without_address().await,
        "health-of-stages" => health_of_stages().await,
        row => bail!("no measurement is named `{row}`"),
    }
}

/// Puts and gets with `c3` while the only decoder is dead; each must say early what it waits for, and must fail after
/// one call, once the gateway has waited [`NODE_WAIT`] seconds for a decoder.
async fn bounded_once() -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::default().start().await?;
    let client = Client::connect(&cluster.gateway.url()).await?;
    let stored = client.put_text(TEXT, &WriteOptions::default()).await?;
    cluster.decoders[0].kill()?;
    until("the gateway to miss the decoder", NOTICED_LIMIT, async || {
        let nodes = client.nodes().await.ok()?;
        nodes.iter().any(|node| node.state() != NodeState::Ready).then_some(())
    })
    .await?;
    let mut file = NamedTempFile::new()?;
    // The text is far longer than what a connection carries before the gateway reads it.
    file.write_all(TEXT.repeat(25_000).as_bytes())?;
    let c3 = |command: &str| Launch::new(Program::C3).arg(command).args(["--gateway", &cluster.gateway.url()]);
    let before = calls(&cluster.gateway, "PutDocument").await?;
    let (put, get) = (c3("put").arg(file.path()), c3("get").arg(stored.document.id.to_string()));
    let (put, get) = tokio::try_join!(timed(put), timed(get))?;
    let puts = calls(&cluster.gateway, "PutDocument").await? - before;
    let gets = calls(&cluster.gateway, "GetText").await?;
    let mut quantities = Vec::new();
    for (name, run, calls) in [("put", put, puts), ("get", get, gets)] {
        let (notice, failure) = (run.lines.first(), run.lines.last());
        let is_notice = |(seconds, line): &(f64, String)| {
            *seconds <= NOTICE_MAX && line == "no decoder is ready; waiting up to 10 s"
        };
        let told = format!("within {NOTICE_MAX} s, what is waited for");
        let failed = run.code == Some(1) && failure.is_some_and(|(_, line)| line.contains("no decoder answers"));
        quantities.extend([
            Quantity::observed(format!("wait-{name}-notice"), notice, notice.is_some_and(is_notice), told),
            Quantity::observed(format!("wait-{name}-failure"), failure, failed, "exit code 1, names the decoder"),
            Quantity::at_most(format!("wait-{name}-seconds"), run.seconds, NODE_WAIT + MARGIN),
            Quantity::equal(format!("wait-{name}-calls"), calls, 1.0),
        ]);
    }
    Ok(quantities)
}

/// A run of a command, with the lines of its standard error and the time of each, in seconds since its start.
struct TimedRun {
    seconds: f64,
    code: Option<i32>,
    lines: Vec<(f64, String)>,
}

async fn timed(launch: Launch) -> Result<TimedRun> {
    let run = move || {
        let started = Instant::now();
        let mut child = launch.command()?.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut lines = Vec::new();
        for line in BufReader::new(child.stderr.take().context("no standard error")?).lines() {
            lines.push((started.elapsed().as_secs_f64(), line?));
        }
        let code = child.wait()?.code();
        Ok(TimedRun { seconds: started.elapsed().as_secs_f64(), code, lines })
    };
    spawn_blocking(run).await?
}

/// Returns the number of ended calls of a method, with any status code. Reads it from the histogram of call durations.
async fn calls(gateway: &Process, method: &str) -> Result<f64> {
    let metrics = gateway.metrics().await?;
    let counts = metrics.lines().filter(|line| line.contains("_count{") && line.contains(method));
    Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// Calls a gateway that accepts announcements of nodes but knows no decoder; the calls must wait and then fail with
/// UNAVAILABLE, naming the decoder. They must not claim that another model is served.
async fn without_address() -> Result<Vec<Quantity>> {
    let cluster = ClusterSpec::default().start().await?;
    let (client, folder) = (Client::connect(&cluster.gateway.url()).await?, TempDir::new()?);
    let stored = client.put_text(TEXT, &WriteOptions::default()).await?;
    // Starts another gateway over the same store. It has no address of a decoder.
    let gateway = Launch::new(Program::Gateway).arg("--data").arg(cluster.data()).arg("--accept-nodes");
    let gateway = gateway.args(["--compressor", &cluster.compressors[0].url()]).serve(folder.path()).await?;
    let client = Client::connect(&gateway.url()).await?;
    let id = stored.document.id.to_string();
    let get = async {
        let text = client.get(&id, ByteRange::default()).await?;
        text.try_collect::<Vec<_>>().await
    };
    let options = WriteOptions::default();
    let (put, get) = tokio::join!(client.put_text("Another text.", &options), get);
    let errors = [("put", put.map(drop).err()), ("get", get.map(drop).err())];
    let quantity = |(name, error): (&str, Option<c3_client::Error>)| {
        let ok = error
            .as_ref()
            .is_some_and(|error| error.code() == Some(Code::Unavailable) && error.to_string().contains("no decoder"));
        let seen = error.map(|error| format!("{:?}: {error}", error.code()));
        Quantity::observed(format!("wait-without-address-{name}"), seen, ok, "UNAVAILABLE, names the decoder")
    };
    Ok(errors.into_iter().map(quantity).collect())
}

/// Kills the only node of each stage in turn; HTTP probes, gRPC health, `c3 nodes --check` and the log must all report
/// the loss.
async fn health_of_stages() -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::default().start().await?;
    let mut quantities = vec![Health::quantity("health-with-all-nodes", &cluster, Health::new([1, 1, 1], 0)).await?];
    let live = status(&cluster.gateway, "/livez").await?;
    quantities.push(Quantity::equal(
        "health-livez-of-gateway-and-node",
        [live, status(&cluster.decoders[0], "/livez").await?],
        [200; 2],
    ));
    quantities.push(Quantity::equal("health-readyz-of-node", status(&cluster.decoders[0], "/readyz").await?, 200));
    for path in ["/", "/nonsense", "/c3.v1.Gateway/Stat"] {
        let seen = [status(&cluster.gateway, path).await?, status(&cluster.decoders[0], path).await?];
        quantities.push(Quantity::observed(
            format!("health-unknown-path {path}"),
            seen,
            seen.iter().all(|&s| s >= 400),
            ">= 400",
        ));
    }
    // Without --accept-nodes, the gateway does not have this service.
    let unknown = RegistryClient::new(cluster.gateway.channel()?).announce(AnnounceRequest::default()).await;
    let unknown = unknown.err().map(|status| status.code() as i32);
    quantities.push(Quantity::equal("health-unknown-method", unknown, Some(Code::Unimplemented as i32)));

    cluster.decoders[0].kill()?;
    let report = ready_report(&cluster, r#""decoder":false"#).await?;
    quantities.push(Quantity::observed(
        "health-readyz",
        &report,
        report.contains(r#""compressor":true"#),
        "names the decoder",
    ));
    quantities.push(Health::quantity("health-without-decoder", &cluster, Health::new([1, 0, 0], 1)).await?);
    let warns = |stage: &str| {
        let log = cluster.gateway.log();
        log.lines().any(|line| line.contains("WARN") && line.contains("last ready node") && line.contains(stage))
    };
    quantities.push(Quantity::holds("health-warns-of-decoder", warns("decoder"), "one WARN line"));
    let number = cluster.compressors.len();
    cluster.restart_node(number).await?;
    ready_report(&cluster, r#""decoder":true"#).await?;

    cluster.compressors[0].kill()?;
    ready_report(&cluster, r#""compressor":false"#).await?;
    quantities.push(Health::quantity("health-without-compressor", &cluster, Health::new([1, 0, 1], 1)).await?);
    Ok(quantities)
}

/// Health that a gateway reports.
#[derive(Debug, PartialEq, serde::Serialize)]
struct Health {
    /// Health of the gateway, of its writes and of its reads: 1 if SERVING, else 0.
    served: [u8; 3],
    /// HTTP status of `/readyz`.
    readyz: u16,
    /// Exit code of `c3 nodes --check`.
    check: Option<i32>,
}

impl Health {
    fn new(served: [u8; 3], check: i32) -> Self {
        Self { served, readyz: if check == 0 { 200 } else { 503 }, check: Some(check) }
    }

    /// Returns the quantity of a report that must become equal to `expected`.
    async fn quantity(name: &str, cluster: &Cluster, expected: Self) -> Result<Quantity> {
        let settled = async || (Self::of(cluster).await.ok()? == expected).then_some(());
        // If the report stays different, the quantity below shows it.
        let _ = until(name, SETTLE_LIMIT, settled).await;
        Ok(Quantity::equal(name, Self::of(cluster).await?, expected))
    }

    async fn of(cluster: &Cluster) -> Result<Self> {
        let mut health = HealthClient::new(cluster.gateway.channel()?);
        let mut served = [0; 3];
        for (is_served, service) in served.iter_mut().zip(["", "c3.v1.Gateway/write", "c3.v1.Gateway/read"]) {
            let request = HealthCheckRequest { service: service.to_owned() };
            let status = health.check(request).await.map(|answer| answer.get_ref().status());
            *is_served = u8::from(status.is_ok_and(|status| status == ServingStatus::Serving));
        }
        let check = Launch::new(Program::C3).args(["nodes", "--check", "--gateway", &cluster.gateway.url()]);
        let check = check.output().await?.status.code();
        Ok(Self { served, readyz: status(&cluster.gateway, "/readyz").await?, check })
    }
}

/// Waits until the gateway's `/readyz` contains `expected`, and returns the response.
async fn ready_report(cluster: &Cluster, expected: &str) -> Result<String> {
    until(&format!("{expected} in /readyz"), NOTICED_LIMIT, async || {
        cluster.gateway.http_get("/readyz").await.ok().filter(|report| report.contains(expected))
    })
    .await
}

async fn status(server: &Process, path: &str) -> Result<u16> {
    let answer = server.http_get(path).await?;
    Ok(answer.split(' ').nth(1).context("no status")?.parse()?)
}
