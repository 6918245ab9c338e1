//! Time until `c3 mcp` with servers in its process answers, and size of its list of tools.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::agent::{StdioAgent, text_of};
use crate::harness::fixtures::text;
use crate::harness::quantity::Quantity;

/// Maximum seconds from the start to the recalled text.
const SECONDS_MAX: f64 = 3.0;
const TEXT_BYTES: usize = 2000;
/// Starts of which the median counts.
const STARTS: usize = 5;
/// Maximum bytes of the result of `tools/list`.
const TOOLS_BYTES_MAX: f64 = 6000.0;

/// Measures starts until a stored text of 2 KB is recalled.
pub(super) async fn start() -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-mcp-")?;
    let args = ["--data", &folder.path().display().to_string()];
    let page = text("page.txt")?;
    let page = &page[..page.floor_char_boundary(TEXT_BYTES)];
    let mut agent = StdioAgent::initialized(&args).await?;
    let stored = agent.call("store", json!({ "text": page })).await?;
    agent.end().await?;
    let (mut seconds, mut wrong) = (Vec::new(), 0);
    for _ in 0..STARTS {
        let started = Instant::now();
        let mut agent = StdioAgent::initialized(&args).await?;
        let recalled = agent.call("recall", json!({ "handle": stored["structuredContent"]["handle"] })).await?;
        seconds.push(started.elapsed().as_secs_f64());
        wrong += usize::from(text_of(&recalled) != page);
        agent.end().await?;
    }
    seconds.sort_by(f64::total_cmp);
    Ok(vec![
        Quantity::at_most("start-seconds", seconds[STARTS / 2], SECONDS_MAX),
        Quantity::reported("start-seconds-longest", seconds[STARTS - 1]),
        Quantity::equal("start-wrong-texts", wrong, 0),
    ])
}

/// Measures what the descriptions of the tools take in a model's context.
pub(super) async fn tools() -> Result<Vec<Quantity>> {
    let folder = TempDir::with_prefix("c3-mcp-")?;
    let files = folder.path().display().to_string();
    // The list does not need the gateway.
    let mut agent = StdioAgent::initialized(&["--gateway", "http://127.0.0.1:9", "--files", &files]).await?;
    let list = agent.request("tools/list", json!({})).await?["result"].clone();
    Ok(vec![
        Quantity::equal("tools-count", list["tools"].as_array().map_or(0, Vec::len), 5),
        Quantity::at_most("tools-bytes", list.to_string().len() as f64, TOOLS_BYTES_MAX),
    ])
}
