//! Mistakes of agents and faults around them. Each gets an error that says what to do; nothing half-stored is visible.

use std::os::unix::fs::symlink;

use anyhow::Result;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::agent::{StdioAgent, text_of};
use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures::text;
use crate::harness::quantity::Quantity;

/// Size of a text that no message may have.
const HUGE: usize = 300_000_000;
/// Copies of the chapter in the text whose storing is cancelled once it reports progress: some seconds of work.
const COPIES: usize = 20;

pub(super) async fn bad_input() -> Result<Vec<Quantity>> {
    let mut cluster = ClusterSpec::default().start().await?;
    let folder = TempDir::with_prefix("c3-files-")?;
    let (allowed, outside) = (folder.path().join("allowed"), folder.path().join("outside.txt"));
    std::fs::create_dir(&allowed)?;
    std::fs::write(&outside, text("page.txt")?)?;
    symlink(&outside, allowed.join("link.txt"))?;
    let (url, files) = (cluster.gateway.url(), allowed.display().to_string());
    let mut agent = StdioAgent::initialized(&["--gateway", &url, "--files", &files]).await?;
    let page = text("page.txt")?;
    let stored = agent.call("store", json!({ "text": page })).await?;
    let handle = stored["structuredContent"]["handle"].clone();
    let mut quantities = Vec::new();
    let mut says = |name: &str, answer: &Value, expected: &str| {
        let said = match answer.get("error") {
            Some(error) => error["message"].as_str().unwrap_or_default().to_owned(),
            None => text_of(answer).to_owned(),
        };
        let is_error = answer.get("error").is_some() || answer["isError"] == true;
        let name = format!("bad-input-{name}");
        quantities.push(Quantity::observed(
            name,
            &said,
            is_error && said.contains(expected),
            format!("says {expected}"),
        ));
    };

    for (name, path) in
        [("symlink-outside", "link.txt"), ("path-outside", "../outside.txt"), ("path-system", "/etc/hosts")]
    {
        says(name, &agent.call("store", json!({ "path": path })).await?, "outside the folders");
    }
    says("no-file", &agent.call("store", json!({ "path": "none.txt" })).await?, "No such file");
    says("wrong-type", &agent.call("recall", json!({ "handle": handle, "start": "first" })).await?, "argument `start`");
    says("unknown-handle", &agent.call("recall", json!({ "handle": "0000" })).await?, "no document begins with `0000`");
    says(
        "out-of-range",
        &agent.call("recall", json!({ "handle": handle, "end": 1_000_000 })).await?,
        "exceeds the document",
    );

    let mut message =
        br#"{"jsonrpc":"2.0","id":7777,"method":"tools/call","params":{"name":"store","arguments":{"text":""#.to_vec();
    message.resize(message.len() + HUGE, b'x');
    message.extend_from_slice(b"\"}}}\n");
    agent.write(message).await?;
    says("huge-message", &agent.answer(7777).await?, "store a file with `path`");

    let long = text("chapter.txt")?.repeat(COPIES) + "end";
    let arguments = json!({ "text": long, "name": "cancelled", "labels": { "a": "b" } });
    let call = json!({ "name": "store", "arguments": arguments, "_meta": { "progressToken": "p" } });
    let id = agent.begin("tools/call", call).await?;
    agent.notification("notifications/progress").await?;
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } });
    agent.send(&cancel).await?;
    // An idle cluster shows that the nodes have dropped the work.
    let idle = cluster.wait_until_idle().await;
    says("cancelled-name", &agent.call("recall", json!({ "handle": "@cancelled" })).await?, "no document has the name");
    let found = agent.call("find", json!({ "labels": { "a": "b" } })).await?;

    let address = cluster.gateway.address().to_owned();
    cluster.gateway.kill()?;
    says("gateway-down", &agent.call("recall", json!({ "handle": handle })).await?, "try again in a moment");
    cluster.gateway = cluster.start_gateway_at(&address).await?;
    cluster.wait_until_ready().await?;
    let recalled = agent.call("recall", json!({ "handle": handle })).await?;
    quantities.push(Quantity::holds("bad-input-cancelled-work-ends", idle.is_ok(), "nodes become idle"));
    quantities.push(Quantity::equal(
        "bad-input-cancelled-documents",
        found["structuredContent"]["hits"].clone(),
        json!([]),
    ));
    quantities.push(Quantity::holds("bad-input-after-restart", text_of(&recalled) == page, "the text is recalled"));
    Ok(quantities)
}
