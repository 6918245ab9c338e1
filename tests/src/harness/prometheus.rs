//! A Prometheus server that scrapes programs under test.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::external::{self, ExternalServer};
use crate::harness::process::free_address;

/// A running Prometheus. It scrapes and evaluates its rules each second.
#[derive(Debug)]
pub struct Prometheus {
    server: ExternalServer,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts Prometheus with the given elements of `scrape_configs` and rule files.
    pub async fn start(jobs: Vec<Value>, rule_files: &[PathBuf]) -> Result<Self> {
        let program = external::path_of("prometheus", "apt-get install prometheus")?;
        let folder = TempDir::with_prefix("c3-prometheus-")?;
        let config = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": rule_files,
            "scrape_configs": jobs,
        });
        let file = folder.path().join("prometheus.yml");
        // JSON is YAML.
        fs::write(&file, config.to_string())?;
        let address = free_address()?;
        let args = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()),
            format!("--web.listen-address={address}"),
            "--enable-feature=exemplar-storage".to_owned(),
        ];
        let server = ExternalServer::start(&program, args, address.clone()).await?;
        Ok(Self { server, _folder: folder })
    }

    /// Returns the field `data` of the answer of the HTTP API at `/api/v1/PATH`. `query` may be empty.
    pub async fn ask(&self, path: &str, query: &str) -> Result<Value> {
        self.ask_with(path, &[("query", query)]).await
    }

    /// Returns the trace ids of all exemplars that the query selects.
    pub async fn exemplars(&self, query: &str) -> Result<BTreeSet<String>> {
        let arguments = [("query", query), ("start", "0"), ("end", "4102444800")];
        let series = self.ask_with("query_exemplars", &arguments).await?;
        let exemplars = series.as_array().into_iter().flatten().filter_map(|series| series["exemplars"].as_array());
        let trace = |exemplar: &Value| exemplar["labels"]["trace_id"].as_str().map(str::to_owned);
        Ok(exemplars.flatten().filter_map(trace).collect())
    }

    async fn ask_with(&self, path: &str, arguments: &[(&str, &str)]) -> Result<Value> {
        let url = format!("http://{}/api/v1/{path}", self.server.address);
        let mut command = Command::new("curl");
        command.args(["--silent", "--get", &url]);
        for (name, value) in arguments {
            command.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        let output = tokio::task::spawn_blocking(move || command.output()).await?;
        let output = output.context("curl is missing: apt-get install curl")?;
        let mut answer: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(answer["status"] == "success", "{}: {arguments:?}", answer["error"]);
        Ok(answer["data"].take())
    }

    /// Returns the value of a query that yields one number, or `None` if it yields nothing.
    pub async fn value(&self, query: &str) -> Result<Option<f64>> {
        let answer = self.ask("query", query).await?;
        let value = answer["result"][0]["value"][1].as_str();
        Ok(value.map(str::parse).transpose()?)
    }
}
