//! `c3 stat`: what is known of a document, or what all of them come to.

use c3_client::{Client, pb};
use indicatif::{HumanBytes, HumanCount};
use serde_json::json;

use crate::args::RemoteArgs;
use crate::failure::Failure;
use crate::list;
use crate::output::print;
use crate::report;

/// Arguments of `stat`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatArgs {
    /// The document's id, enough first digits of it, or @NAME [default: what all documents come to]
    #[arg(value_parser = crate::args::id)]
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Tells what is known.
pub(crate) async fn stat(args: StatArgs) -> Result<(), Failure> {
    let client = Client::connect(&args.remote.gateway).await?;
    if let Some(id) = &args.id {
        return list::stat(&client, id, &args.remote).await;
    }
    let totals = client.totals().await?;
    print(&if args.remote.json { in_json(&totals) } else { in_words(&totals) })
}

fn in_json(totals: &pb::TotalsResponse) -> String {
    report::json(&json!({
        "documents": totals.documents,
        "bytes": totals.bytes,
        "tokens": totals.tokens,
        "latents": totals.latents,
        "shards": totals.shards,
        "windows": totals.windows,
        "names": totals.names,
        "objects": totals.objects,
        "stored_bytes": totals.stored_bytes,
        "damaged": totals.damaged,
    }))
}

fn in_words(totals: &pb::TotalsResponse) -> String {
    let count = |number: u64| HumanCount(number).to_string();
    let mut lines = vec![
        format!("documents  {} with {} names", count(totals.documents), count(totals.names)),
        format!("text       {} bytes, {} tokens", count(totals.bytes), count(totals.tokens)),
        format!("latents    {}", count(totals.latents)),
        format!("windows    {} in {} shards", count(totals.windows), count(totals.shards)),
        format!("stored     {} in {} objects", HumanBytes(totals.stored_bytes), count(totals.objects)),
    ];
    if totals.damaged > 0 {
        lines.push(format!("damaged    {} documents; see `c3 fsck`", count(totals.damaged)));
    }
    lines.join("\n")
}
