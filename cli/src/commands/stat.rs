//! `c3 stat`: describes a document, or the whole store.

use c3_client::Totals;
use indicatif::{HumanBytes, HumanCount};

use crate::args::{RemoteArgs, document_ref};
use crate::error::CliError;
use crate::output::describe;

/// Arguments of `stat`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatArgs {
    /// Document: its id, a unique prefix of it, or @NAME [default: totals of all documents]
    #[arg(value_parser = document_ref)]
    id: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Describes the document or the store.
pub(crate) async fn run(args: StatArgs) -> Result<(), CliError> {
    let client = args.remote.connect().await?;
    if let Some(id) = &args.id {
        let document = client.stat(id).await?;
        return args.remote.format.print(describe(&document), &document);
    }
    let totals = client.totals().await?;
    args.remote.format.print(describe_totals(&totals), &totals)
}

fn describe_totals(totals: &Totals) -> String {
    let count = HumanCount;
    let mut lines = vec![
        format!("documents  {} with {} names", count(totals.documents), count(totals.names)),
        format!("text       {} bytes, {} tokens", count(totals.bytes), count(totals.tokens)),
        format!("latents    {}", count(totals.latents)),
        format!("windows    {} in {} shards", count(totals.windows), count(totals.shards)),
        format!("stored     {} in {} objects", HumanBytes(totals.stored_bytes), count(totals.objects)),
    ];
    if totals.damaged > 0 {
        lines.push(format!("damaged    {} documents; run `c3 fsck`", count(totals.damaged)));
    }
    lines.join("\n")
}
