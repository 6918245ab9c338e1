//! Many small documents that `c3` puts as a batch, compared with the same bytes as one document.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::ops::{small_text, sweep};
use crate::harness::cluster::{Cluster, ClusterSpec};
use crate::harness::process::{Launch, Program};
use crate::harness::quantity::Quantity;

/// Minimum throughput of the batch, relative to a put of the same bytes as one document.
const RATE_SHARE: f64 = 0.3;
/// Maximum number of files per document.
const FILES_SHARE: f64 = 0.1;
/// Maximum seconds to list 10,000 documents.
const LIST_SECONDS: f64 = 2.0;

/// Puts `count` documents of about 200 bytes in `rounds` batches of JSON lines; they must need few files, must be
/// listed fast, and must be stored at [`RATE_SHARE`] of the rate of the same texts in one document. Before each batch,
/// puts its texts as one document.
pub async fn batch(count: usize, rounds: usize) -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::default().start().await?;
    let folder = tempfile::tempdir()?;
    let (mut many, mut one, mut failed, mut files, mut files_of_one) = (0.0, 0.0, 0, 0, 0);
    let each = count.div_ceil(rounds);
    for round in 0..rounds {
        let texts = Vec::from_iter((0..each).map(|number| small_text(round * each + number)));
        let (lines, whole) = (folder.path().join("lines.jsonl"), folder.path().join("whole.txt"));
        fs::write(&lines, texts.iter().map(|text| format!("{}\n", json!({ "text": text }))).collect::<String>())?;
        // The document has the texts in reverse order, so that the batch shares no shards (parts of a text) with it.
        fs::write(&whole, texts.iter().rev().map(String::as_str).collect::<String>())?;
        let before_one = cluster.objects()?.len();
        one += seconds(&cluster, &[], &whole).await?.0;
        let before = cluster.objects()?.len();
        files_of_one += before - before_one;
        let (took, put) = seconds(&cluster, &["--jsonl"], &lines).await?;
        many += took;
        files += cluster.objects()?.len() - before;
        let printed = String::from_utf8(put.stdout)?;
        let total: Value = serde_json::from_str(printed.lines().last().context("no output")?)?;
        failed += total["failed"].as_u64().context("no total")?;
        ensure!(total["documents"] == each, "{total}");
    }
    let count = each * rounds;

    cluster.restart_gateway().await?;
    let started = Instant::now();
    let listed = c3(&cluster, &["ls", "--json"]).await?;
    let list_seconds = started.elapsed().as_secs_f64();
    let listed: Value = serde_json::from_slice(&listed.stdout)?;
    let listed = listed["documents"].as_array().context("no documents")?.len();
    let mut wrong = 0;
    for number in (0..count).step_by(count.div_ceil(20)) {
        let text = small_text(number);
        let id = c3_types::DocumentId::of(text.as_bytes()).to_string();
        wrong += usize::from(c3(&cluster, &["get", &id]).await?.stdout != text.as_bytes());
    }
    sweep(&cluster.api()?, 0).await?;
    let swept_files = cluster.objects()?.len().saturating_sub(files_of_one);
    let files_max = count as f64 * FILES_SHARE;
    Ok(vec![
        Quantity::reported(format!("batch-seconds ({count} documents)"), many),
        Quantity::reported("batch-seconds-as-one-document", one),
        Quantity::at_least("batch-rate-over-one-document", one / many, RATE_SHARE),
        Quantity::equal("batch-failed", failed, 0),
        Quantity::at_most("batch-files", files as f64, files_max),
        Quantity::at_most("batch-files-after-a-sweep", swept_files as f64, files_max),
        Quantity::equal("batch-listed", listed, count + rounds),
        Quantity::at_most("batch-list-seconds", list_seconds, LIST_SECONDS),
        Quantity::equal("batch-wrong", wrong, 0),
    ])
}

/// Returns the duration of a put in seconds, and its output.
async fn seconds(cluster: &Cluster, how: &[&str], file: &Path) -> Result<(f64, Output)> {
    let file = file.display().to_string();
    let started = Instant::now();
    let put = c3(cluster, &[&["put", "--json", "--ratio", "20", &file], how].concat()).await?;
    Ok((started.elapsed().as_secs_f64(), put))
}

async fn c3(cluster: &Cluster, args: &[&str]) -> Result<Output> {
    let output = Launch::new(Program::C3).args(args).env("C3_GATEWAY", cluster.gateway.url()).output().await?;
    ensure!(output.status.success(), "c3 {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}
