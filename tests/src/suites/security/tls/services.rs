//! TLS to services of others: the shared cache (`rediss://`) and the receiver of traces (`https://`).

use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::harness::certificates::Certificates;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::external::ExternalServer;
use crate::harness::gateway_api::id_of;
use crate::harness::otlp::Receiver;
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;
use crate::suites::store::redis::redis_hits;

/// Maximum time until spans have arrived or their export has failed.
const EXPORT_LIMIT: Duration = Duration::from_secs(30);
/// Reads of the document.
const READS: usize = 4;

/// Stores and reads a document on a gateway that trusts the CA of cache and receiver, and on one that does not. The
/// second must not use them, must say why, and must serve all calls nevertheless.
pub(super) async fn services(text: &str) -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-services-")?;
    let (certificates, stranger) = (Certificates::init().await?, Certificates::init().await?);
    let redis = ExternalServer::redis_over_tls(folder.path(), &certificates).await?;
    let receiver = Receiver::start_over_tls(&certificates).await?;
    let mut quantities = Vec::new();
    for (what, ca) in [("trusted", certificates.ca()), ("stranger", stranger.ca())] {
        let spans = receiver.spans().len();
        let cluster = start(&redis, &receiver, &ca).await?;
        let failed = failed_reads(&cluster, text).await?;
        let hits = redis_hits(&cluster.gateway).await?;
        let name = |quantity: &str| format!("tls-services-{what}-{quantity}");
        quantities.push(Quantity::equal(name("failed-reads"), failed, 0));
        if what == "trusted" {
            let exported = async || (receiver.spans().len() > spans).then_some(());
            let _ = until("spans to arrive", EXPORT_LIMIT, exported).await;
            let exported = receiver.spans().len() - spans;
            quantities.push(Quantity::observed(name("cache-hits"), hits, hits > 0.0, "> 0"));
            quantities.push(Quantity::observed(name("spans"), exported, exported > 0, "> 0"));
        } else {
            let explained = async || explained(&cluster.gateway.log());
            let lines = until("the log to explain both failures", EXPORT_LIMIT, explained).await;
            let is_explained = lines.is_ok();
            let log = lines.unwrap_or_else(|_| cluster.gateway.log());
            quantities.push(Quantity::equal(name("cache-hits"), hits, 0.0));
            quantities.push(Quantity::equal(name("spans"), receiver.spans().len() - spans, 0));
            quantities.push(Quantity::observed(
                name("log"),
                log,
                is_explained,
                "names the certificate, for each service",
            ));
        }
    }
    Ok(quantities)
}

/// Starts a cluster that uses both services. All its programs trust only `ca`, and the gateway has no cache in memory.
async fn start(redis: &ExternalServer, receiver: &Receiver, ca: &str) -> Result<Cluster> {
    let env = [("SSL_CERT_FILE", ca), ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url())];
    let env = Vec::from(env.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let redis = format!("rediss://{}", redis.address);
    let args = ["--redis", &redis, "--cache-size", "0"];
    ClusterSpec { env, ..ClusterSpec::with_gateway_args(&args) }.start().await
}

/// Stores a document and reads it several times. Returns the number of reads that failed or returned another text.
async fn failed_reads(cluster: &Cluster, text: &str) -> Result<usize> {
    let api = cluster.api()?;
    let id = id_of(&api.put_at(text.as_bytes(), 20).await?.document.context("the put has no document")?);
    let mut failed = 0;
    for _ in 0..READS {
        failed += usize::from(!api.get(&id).await.is_ok_and(|got| got.text == text.as_bytes()));
    }
    Ok(failed)
}

/// Returns the lines of a log that say that the cache and the receiver of traces were not reached because of their
/// certificates, once there are both.
fn explained(log: &str) -> Option<String> {
    let of = |subject: &str| log.lines().find(|line| line.contains(subject) && line.contains("certificate"));
    Some(format!("{}\n{}", of("cache")?, of("export failed")?))
}
