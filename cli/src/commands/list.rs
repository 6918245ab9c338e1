//! `c3 ls`, `rm`, `nodes`, and `stat` of a document: what the gateway knows.

use std::collections::BTreeMap;

use c3_client::{Client, Document, DocumentId, Label, Labels, ListQuery, Listed, Namespace, pb};
use c3_proto::Fingerprint;
use futures::{Stream, StreamExt, TryStreamExt};
use indicatif::HumanCount;
use serde::Serialize;

use crate::args::{IdArgs, LsArgs, RemoteArgs};
use crate::failure::Failure;
use crate::output::print;
use crate::report::{self, age, percent, times};

/// Digits of an id in a list: enough to be unique, few enough to read.
const ID_DIGITS_SHOWN: usize = 12;

/// Which documents to list.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct FilterArgs {
    /// Only documents with this label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<Label>,
    /// Only documents with a name that begins so
    #[arg(long, value_name = "PREFIX")]
    pub(crate) name_prefix: Option<String>,
    /// Only documents with a name in this namespace
    #[arg(long)]
    pub(crate) namespace: Option<Namespace>,
    /// Only ids after this one: where the last page ended
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<DocumentId>,
    /// At most so many [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

impl FilterArgs {
    /// What to ask for: documents whose id begins with `prefix`.
    fn query(&self, prefix: &str) -> Result<ListQuery, Failure> {
        let by_name = self.name_prefix.is_some() || self.namespace.is_some();
        let names = || {
            let namespace = self.namespace.clone().unwrap_or_default();
            (namespace, self.name_prefix.clone().unwrap_or_default())
        };
        Ok(ListQuery {
            prefix: prefix.to_owned(),
            after: self.after,
            labels: Labels::new(self.labels.iter().cloned().map(Into::into))?,
            names: by_name.then(names),
        })
    }
}

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
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
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
            labels: document.labels.clone(),
            names: document.names.clone(),
        }
    }
}

/// Tells what is known of a document.
pub(crate) async fn stat(client: &Client, id: &str, remote: &RemoteArgs) -> Result<(), Failure> {
    let document = client.stat(id).await?;
    match remote.json {
        true => print(&report::json(&DocumentRecord::from(&document))),
        false => print(&report::describe(&document)),
    }
}

/// The documents that are asked for; warns of those that cannot be read.
pub(crate) fn readable(
    client: &Client,
    query: &ListQuery,
) -> impl Stream<Item = Result<Document, c3_client::Error>> + use<> {
    client.list_where(query).try_filter_map(async |listed| {
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
    let documents = readable(&client, &args.filter.query(&args.prefix)?);
    let mut documents = std::pin::pin!(documents.take(args.filter.limit.unwrap_or(usize::MAX)));
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
        let mut stored = age(document.created_unix_ms);
        let labels = document.labels.iter().map(|(key, value)| format!("{key}={value}"));
        for note in document.names.iter().cloned().chain(labels) {
            stored.push_str(&format!("  {note}"));
        }
        line(columns, &stored)?;
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
