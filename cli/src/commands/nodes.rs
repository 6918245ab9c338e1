//! `c3 nodes`: lists the nodes of a gateway and the state of each.

use c3_client::pb;
use c3_types::Fingerprint;
use serde::Serialize;
use serde_json::json;

use crate::args::RemoteArgs;
use crate::error::CliError;
use crate::notice;
use crate::output::{Align, Cell, Column, Format, Table, style};

const COLUMNS: &[Column] = &[
    ("stage", Align::Left),
    ("state", Align::Left),
    ("address", Align::Left),
    ("busy", Align::Right),
    ("backlog", Align::Right),
    ("model", Align::Left),
    ("problem", Align::Left),
];

/// State of a node that serves calls.
const READY: &str = "ready";

/// JSON record of a node.
#[derive(Serialize)]
struct NodeRecord {
    address: String,
    stage: String,
    state: String,
    problem: String,
    calls_in_flight: u32,
    #[serde(flatten)]
    description: Option<DescriptionRecord>,
}

/// Part of the JSON record that comes from the node's own description. Omitted until the gateway has received a
/// description from the node.
#[derive(Serialize)]
struct DescriptionRecord {
    cascade: String,
    fingerprint: Option<String>,
    arithmetic: String,
    device: String,
    accelerator: String,
    version: String,
    ratio_min: u32,
    ratio_max: u32,
    ratio_default: u32,
    ratios: Vec<u32>,
    queued_tokens: u64,
    running_tokens: u64,
    backlog_seconds: f64,
    busy_share: f64,
}

/// Arguments of `nodes`.
#[derive(Debug, clap::Args)]
pub(crate) struct NodesArgs {
    /// For health checks: exit with code 1 unless each stage has a ready node
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Lists the nodes. With `--check`, then fails if a stage has no ready node.
pub(crate) async fn run(args: NodesArgs) -> Result<(), CliError> {
    let client = args.remote.connect().await?;
    list(client.nodes().await?, args.remote.format)?;
    let unready = if args.check { client.unready_stages().await?.stages } else { Vec::new() };
    if unready.is_empty() { Ok(()) } else { Err(CliError::Failed(notice::unready(&unready))) }
}

fn list(nodes: Vec<pb::Node>, format: Format) -> Result<(), CliError> {
    let nodes: Vec<NodeRecord> = nodes.into_iter().map(NodeRecord::from).collect();
    if format.json {
        return format.print("", &json!({ "nodes": nodes }));
    }
    let mut table = Table::new(COLUMNS);
    for NodeRecord { address, stage, state, problem, description, .. } in nodes {
        let is_ready = state == READY;
        let (busy, backlog, model) = description.as_ref().map_or_else(Default::default, DescriptionRecord::cells);
        table.row([
            stage.into(),
            Cell::new(state).style(if is_ready { style::GOOD } else { style::BAD }),
            address.into(),
            busy.into(),
            backlog.into(),
            model.into(),
            problem.into(),
        ])?;
    }
    table.finish()
}

impl From<pb::Node> for NodeRecord {
    fn from(node: pb::Node) -> Self {
        let stage = node.stage();
        Self {
            stage: words(stage.as_str_name(), "STAGE_"),
            state: words(node.state().as_str_name(), "NODE_STATE_"),
            address: node.address,
            problem: node.problem,
            calls_in_flight: node.calls_in_flight,
            description: node.description.map(|description| DescriptionRecord::new(description, stage)),
        }
    }
}

impl DescriptionRecord {
    /// Returns the busy share, the backlog and the model as text.
    fn cells(&self) -> (String, String, String) {
        let Self { cascade, device, accelerator, arithmetic, .. } = self;
        let accelerator = if accelerator.is_empty() { String::new() } else { format!(", {accelerator}") };
        let model = format!("{cascade} on {device}{accelerator} ({arithmetic})");
        (format!("{:.0} %", 100.0 * self.busy_share), format!("{:.1} s", self.backlog_seconds), model)
    }

    fn new(description: pb::DescribeResponse, stage: pb::Stage) -> Self {
        let cascade = description.cascade.unwrap_or_default();
        let fingerprint = match stage {
            pb::Stage::Decoder => cascade.decoder_fingerprint,
            _ => cascade.compressor_fingerprint,
        };
        let shape = description.shape.unwrap_or_default();
        let load = description.load.unwrap_or_default();
        Self {
            cascade: cascade.name,
            fingerprint: Fingerprint::try_from(fingerprint.as_ref()).ok().map(|print| print.to_string()),
            arithmetic: description.arithmetic,
            device: description.device,
            accelerator: description.accelerator,
            version: description.version,
            ratio_min: shape.ratio_min,
            ratio_max: shape.ratio_max,
            ratio_default: shape.ratio_default,
            ratios: shape.ratios,
            queued_tokens: load.queued_tokens,
            running_tokens: load.running_tokens,
            backlog_seconds: load.backlog_seconds,
            busy_share: load.busy_share,
        }
    }
}

/// Turns an enum name of the protocol into words: `NODE_STATE_NOT_SERVING` into `not serving`.
fn words(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_names_become_words() {
        assert_eq!(words(pb::NodeState::NotServing.as_str_name(), "NODE_STATE_"), "not serving");
        assert_eq!(words(pb::Stage::Decoder.as_str_name(), "STAGE_"), "decoder");
    }
}
