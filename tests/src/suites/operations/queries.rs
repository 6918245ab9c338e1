//! Dashboards and alerts against a Prometheus that scrapes the real programs under load.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use c3_server::access::Scope;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::harness::access::Access;
use crate::harness::certificates::Certificates;
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::external::ExternalServer;
use crate::harness::fixtures;
use crate::harness::gateway_api::id_of;
use crate::harness::otlp::Receiver;
use crate::harness::prometheus::Prometheus;
use crate::harness::quantity::Quantity;
use crate::harness::wait::until;

/// Time for which the programs are scraped under load: several evaluations of the slowest recording rules.
const LOAD: Duration = Duration::from_secs(40);
/// Maximum time until Prometheus has evaluated all rules.
const RULES_LIMIT: Duration = Duration::from_secs(30);
/// Maximum time until the last spans are exported.
const EXPORT_LIMIT: Duration = Duration::from_secs(20);
/// Parts of queries that select faults, or days before today. Such a query may return nothing.
const MAY_BE_EMPTY: [&str; 6] = [
    "rpc_response_status_code=",
    "outcome!=\"ok\"",
    "corrections_before",
    "c3_retries_total",
    "cache_failures",
    "calls_shed",
];
/// Metrics that appear with the first fault of their kind.
const AFTER_FAULTS: [&str; 1] = ["c3_retries_total"];
/// Values of the dashboards' variables.
const VARIABLES: [(&str, &str); 2] = [("$__rate_interval", "30s"), ("$__interval", "30s")];

/// Runs a load on a cluster with all optional parts, scrapes it, and evaluates all queries of dashboards and alerts.
pub(super) async fn queries(text: &str) -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-prometheus-")?;
    let redis = ExternalServer::redis(folder.path(), None).await?;
    let (certificates, access) = (Arc::new(Certificates::init().await?), Access::with_tenants(&["default", "acme"])?);
    let key = access.key("default", &Scope::ALL)?;
    let (redis, access_file) = (format!("redis://{}", redis.address), access.path().display().to_string());
    let args = ["--redis", &redis, "--access", &access_file, "--gc-interval", "5s"];
    let receiver = Receiver::start().await?;
    let env = vec![("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), receiver.url().to_owned())];
    let spec = ClusterSpec { decoders: 2, env, api_key: Some(key.clone()), ..ClusterSpec::with_gateway_args(&args) };
    let mut cluster = ClusterSpec { certificates: Some(Arc::clone(&certificates)), ..spec }.start().await?;
    let prometheus = start_prometheus(&folder, &cluster, &certificates, &key).await?;
    load(&mut cluster, text).await?;

    let rules = until("the rules", RULES_LIMIT, async || evaluated_rules(&prometheus).await.ok()).await?;
    let unhealthy = rules.iter().filter(|rule| rule["health"] != "ok").map(|rule| rule["lastError"].clone());
    let unhealthy = Vec::from_iter(unhealthy);
    let (mut names, mut empty, mut panels) = (BTreeSet::new(), Vec::new(), 0);
    names.extend(rules.iter().flat_map(|rule| metric_names(rule["query"].as_str().unwrap_or_default())));
    for (panel, query) in dashboard_queries()? {
        panels += 1;
        names.extend(metric_names(&query));
        let result = prometheus.ask("query", &query).await.with_context(|| panel.clone())?;
        let is_empty = result["result"].as_array().is_none_or(Vec::is_empty);
        if is_empty && !MAY_BE_EMPTY.iter().any(|part| query.contains(part)) {
            empty.push(panel);
        }
    }
    let exposed = prometheus.ask("label/__name__/values", "").await?;
    let exposed = BTreeSet::from_iter(exposed.as_array().into_iter().flatten().filter_map(Value::as_str));
    let recorded = BTreeSet::from_iter(rules.iter().filter_map(|rule| rule["name"].as_str()));
    let is_known = |name: &str| exposed.contains(name) || recorded.contains(name) || AFTER_FAULTS.contains(&name);
    let unknown = Vec::from_iter(names.iter().filter(|name| !is_known(name)));
    let exemplars = prometheus.exemplars(r#"rpc_server_call_duration_seconds_bucket{role="gateway"}"#).await?;
    let exported = async || exemplars.is_subset(&traces(&receiver)).then_some(());
    let _ = until("the traces of the exemplars", EXPORT_LIMIT, exported).await;
    let without_trace = exemplars.difference(&traces(&receiver)).count();
    Ok(vec![
        Quantity::observed("queries-rules", rules.len(), rules.len() > 20, "> 20"),
        Quantity::equal("queries-unhealthy-rules", unhealthy, Vec::new()),
        Quantity::observed("queries-of-panels", panels, panels > 40, "> 40"),
        Quantity::equal("queries-without-data", empty, Vec::new()),
        Quantity::equal("queries-of-unknown-metrics", unknown, Vec::new()),
        Quantity::observed("queries-exemplars", exemplars.len(), exemplars.len() > 2, "> 2"),
        Quantity::equal("queries-exemplars-without-trace", without_trace, 0),
    ])
}

/// Returns the ids of the exported traces.
fn traces(receiver: &Receiver) -> BTreeSet<String> {
    receiver.spans().iter().map(|span| hex::encode(&span.trace)).collect()
}

/// Starts Prometheus with the checked-in rules. It scrapes all programs. `folder` receives the key.
async fn start_prometheus(
    folder: &TempDir,
    cluster: &Cluster,
    certificates: &Certificates,
    key: &str,
) -> Result<Prometheus> {
    let key_file = folder.path().join("key");
    fs::write(&key_file, key)?;
    let tls = json!({
        "ca_file": certificates.ca(),
        "cert_file": certificates.path("gateway.pem"),
        "key_file": certificates.path("gateway.key"),
    });
    let job = |name: &str, targets: Vec<&str>| {
        json!({
            "job_name": name,
            "scheme": "https",
            "tls_config": tls,
            "authorization": { "credentials_file": key_file },
            "static_configs": [{ "targets": targets }],
        })
    };
    let jobs = vec![
        job("gateway", vec![cluster.gateway.address()]),
        job("compressor", cluster.compressors.iter().map(|node| node.address()).collect()),
        job("decoder", cluster.decoders.iter().map(|node| node.address()).collect()),
    ];
    Prometheus::start(jobs, &[fixtures::root().join("deploy/alerts/c3-serve.yaml")]).await
}

/// Stores, reads and deletes documents, asks for one that does not exist, and loses a decoder.
async fn load(cluster: &mut Cluster, text: &str) -> Result<()> {
    let api = cluster.api()?;
    let begun = Instant::now();
    let mut killed = false;
    for number in 0.. {
        if begun.elapsed() > LOAD {
            break;
        }
        let document = api.put_at(format!("{number} {text}").as_bytes(), 20).await?.document;
        let id = id_of(&document.context("the put has no document")?);
        ensure!(api.get(&id).await?.text.len() > text.len());
        // The second read is a hit of the memory cache.
        ensure!(!api.windows(&id).await?.is_empty());
        ensure!(!api.windows(&id).await?.is_empty());
        api.stub().delete(c3_proto::pb::DeleteRequest { id }).await?;
        ensure!(api.get(&"0".repeat(64)).await.is_err());
        if begun.elapsed() > LOAD / 2 && !killed {
            cluster.decoders[1].kill()?;
            killed = true;
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Returns all rules, once each has been evaluated.
async fn evaluated_rules(prometheus: &Prometheus) -> Result<Vec<Value>> {
    let groups = prometheus.ask("rules", "").await?;
    let groups = groups["groups"].as_array().cloned().unwrap_or_default();
    let rules = Vec::from_iter(groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()));
    ensure!(!rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown"));
    Ok(rules)
}

/// Returns the title and query of each panel's targets. Variables have values that select everything.
fn dashboard_queries() -> Result<Vec<(String, String)>> {
    let mut queries = Vec::new();
    for entry in fs::read_dir(fixtures::root().join("deploy/dashboards"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let dashboard: Value = serde_json::from_slice(&fs::read(&path)?)?;
        for panel in dashboard["panels"].as_array().into_iter().flatten() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let mut query = target["expr"].as_str().context("a target without a query")?.to_owned();
                for (variable, value) in VARIABLES {
                    query = query.replace(variable, value);
                }
                for variable in ["$namespace", "$instance", "$stage", "$cascade", "$tenant"] {
                    query = query.replace(variable, ".*");
                }
                queries.push((format!("{}: {}", dashboard["title"], panel["title"]), query));
            }
        }
    }
    Ok(queries)
}

/// Returns the names of our metrics, and of those of the process, in a query. Names of recording rules contain colons.
fn metric_names(query: &str) -> Vec<String> {
    let parts = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let prefixes = ["c3_", "c3:", "rpc_", "process_"];
    // Labels that begin like metrics.
    let is_label = |name: &str| ["rpc_method", "rpc_response_status_code", "rpc_system_name"].contains(&name);
    let names = parts.filter(|part| prefixes.iter().any(|prefix| part.starts_with(prefix)) && !is_label(part));
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_metrics_are_found_in_queries() {
        let query =
            r#"sum by (rpc_method) (rate(c3_tokens_total{role="c3"}[5m])) / c3:slo_burn:rate1h > process_threads"#;
        assert_eq!(metric_names(query), ["c3_tokens_total", "c3:slo_burn:rate1h", "process_threads"]);
    }
}
