//! `c3 stat`, `ls`, `rm` and `nodes`: what the gateway knows.

use c3_client::{Client, Document, Listed, pb};
use c3_proto::Fingerprint;
use futures::{Stream, TryStreamExt};
use indicatif::HumanCount;
use serde::Serialize;

use crate::args::{IdArgs, LsArgs, RemoteArgs};
use crate::failure::Failure;
use crate::output::print;
use crate::report::{self, age, percent, times};

/// Digits of an id in a list: enough to be unique, few enough to read.
const ID_DIGITS_SHOWN: usize = 12;

/// A document in JSON.
#[derive(Serialize)]
struct DocumentRecord {
    id: String,
    bytes: u64,
    tokens: u64,
    latents: u64,
    ratio: u32,
    codec: String,
    fidelity: Option<f64>,
    corrections: Option<u64>,
    verified: bool,
    cascade: String,
    shards: u64,
    windows: u64,
    stored_bytes: u64,
    created_unix_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_unix_ms: Option<u64>,
}

impl From<&Document> for DocumentRecord {
    fn from(document: &Document) -> Self {
        Self {
            id: document.id.to_string(),
            bytes: document.bytes,
            tokens: document.tokens,
            latents: document.latents,
            ratio: document.ratio,
            codec: document.codec.to_string(),
            fidelity: document.fidelity(),
            corrections: document.verification.as_ref().map(|verification| verification.corrections),
            verified: document.verification.is_some(),
            cascade: document.cascade.name.clone(),
            shards: document.shards,
            windows: document.windows,
            stored_bytes: document.stored_bytes,
            created_unix_ms: document.created_unix_ms,
            expires_unix_ms: document.expires_unix_ms,
        }
    }
}

/// Tells what is known of a document.
pub(crate) async fn stat(args: IdArgs) -> Result<(), Failure> {
    let document = Client::connect(&args.remote.gateway).await?.stat(&args.id).await?;
    match args.remote.json {
        true => print(&report::json(&DocumentRecord::from(&document))),
        false => print(&report::describe(&document)),
    }
}

/// The documents whose id begins with `prefix`; warns of those that cannot be read.
pub(crate) fn readable(
    client: &Client,
    prefix: &str,
) -> impl Stream<Item = Result<Document, c3_client::Error>> + use<> {
    client.list(prefix).try_filter_map(async |listed| {
        Ok(match listed {
            Listed::Document(document) => Some(*document),
            Listed::Damaged { id, problem } => {
                eprintln!("warning: {id}: {problem}; see `c3 fsck`");
                None
            }
        })
    })
}

/// Lists the documents.
pub(crate) async fn ls(args: LsArgs) -> Result<(), Failure> {
    let client = Client::connect(&args.remote.gateway).await?;
    let mut documents = std::pin::pin!(readable(&client, &args.prefix));
    if args.remote.json {
        let all: Vec<Document> = documents.try_collect().await?;
        let all: Vec<DocumentRecord> = all.iter().map(DocumentRecord::from).collect();
        return print(&report::json(&serde_json::json!({ "documents": all })));
    }
    let header = ("id", "bytes", "tokens", "ratio", "fidelity");
    let line = |(id, bytes, tokens, ratio, fidelity): (&str, &str, &str, &str, &str), stored: &str| {
        print(&format!(
            "{id:ID_DIGITS_SHOWN$}  {bytes:>13}  {tokens:>12}  {ratio:>5}  {fidelity:>9}  {stored}"
        ))
    };
    line(header, "stored")?;
    while let Some(document) = documents.try_next().await? {
        let id = document.id.to_string();
        let bytes = HumanCount(document.bytes).to_string();
        let tokens = HumanCount(document.tokens).to_string();
        let ratio = times(document.ratio);
        let fidelity = document.fidelity().map_or_else(|| "-".to_owned(), percent);
        let columns =
            (&id[..ID_DIGITS_SHOWN], bytes.as_str(), tokens.as_str(), ratio.as_str(), fidelity.as_str());
        line(columns, &age(document.created_unix_ms))?;
    }
    Ok(())
}

/// Forgets a document.
pub(crate) async fn rm(args: IdArgs) -> Result<(), Failure> {
    let id = Client::connect(&args.remote.gateway).await?.delete(&args.id).await?;
    match args.remote.json {
        true => print(&report::json(&serde_json::json!({ "id": id.to_string(), "deleted": true }))),
        false => print(&format!("deleted {id}")),
    }
}

/// A node in JSON.
#[derive(Serialize)]
struct NodeRecord {
    address: String,
    stage: String,
    state: String,
    problem: String,
    calls_in_flight: u32,
    #[serde(flatten)]
    description: Option<NodeDescription>,
}

/// What a node says of itself, in JSON.
#[derive(Serialize)]
struct NodeDescription {
    cascade: String,
    fingerprint: Option<String>,
    arithmetic: String,
    device: String,
    version: String,
    ratio_min: u32,
    ratio_max: u32,
    ratio_default: u32,
    ratios: Vec<u32>,
    queued_tokens: u64,
    running_tokens: u64,
}

impl From<pb::Node> for NodeRecord {
    fn from(node: pb::Node) -> Self {
        let stage = node.stage();
        Self {
            stage: spoken(stage.as_str_name(), "STAGE_"),
            state: spoken(node.state().as_str_name(), "NODE_STATE_"),
            address: node.address,
            problem: node.problem,
            calls_in_flight: node.calls_in_flight,
            description: node.description.map(|description| NodeDescription::new(description, stage)),
        }
    }
}

impl NodeDescription {
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
            version: description.version,
            ratio_min: shape.ratio_min,
            ratio_max: shape.ratio_max,
            ratio_default: shape.ratio_default,
            ratios: shape.ratios,
            queued_tokens: load.queued_tokens,
            running_tokens: load.running_tokens,
        }
    }
}

/// Lists the nodes that the gateway knows.
pub(crate) async fn nodes(args: RemoteArgs) -> Result<(), Failure> {
    let nodes = Client::connect(&args.gateway).await?.nodes().await?;
    let nodes: Vec<NodeRecord> = nodes.into_iter().map(NodeRecord::from).collect();
    if args.json {
        return print(&report::json(&serde_json::json!({ "nodes": nodes })));
    }
    for node in nodes {
        let what = match node.description {
            Some(node) => format!("{} on {} ({})", node.cascade, node.device, node.arithmetic),
            None => String::new(),
        };
        let (stage, state, address, problem) = (node.stage, node.state, node.address, node.problem);
        print(format!("{stage:10}  {state:11}  {address}  {what}{problem}").trim_end())?;
    }
    Ok(())
}

/// A name of the protocol as people say it: without its prefix, in lower case, in words.
fn spoken(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_protocol_are_spoken() {
        assert_eq!(spoken(pb::NodeState::NotServing.as_str_name(), "NODE_STATE_"), "not serving");
        assert_eq!(spoken(pb::Stage::Decoder.as_str_name(), "STAGE_"), "decoder");
    }
}
