//! `c3 stat`: describes a document, or the whole store.

use c3_client::Totals;
use clap_complete::ArgValueCompleter;
use indicatif::{HumanBytes, HumanCount};

use crate::args::{RemoteArgs, document_ref};
use crate::complete;
use crate::error::CliError;
use crate::output::describe;
use crate::output::format::count;

/// Arguments of `stat`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatArgs {
    /// Document: its id, a unique prefix of it, or @NAME [default: totals of all documents]
    #[arg(value_parser = document_ref, add = ArgValueCompleter::new(complete::documents))]
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
    let size = |bytes, objects| format!("{} in {}", HumanBytes(bytes), count(objects, "object"));
    let mut lines = vec![
        format!("documents  {} with {}", HumanCount(totals.documents), count(totals.names, "name")),
        format!("text       {}, {}", count(totals.bytes, "byte"), count(totals.tokens, "token")),
        format!("latents    {}", HumanCount(totals.latents)),
        format!("windows    {} in {}", HumanCount(totals.windows), count(totals.shards, "shard")),
        format!("stored     {}", size(totals.document_bytes(), totals.document_objects())),
    ];
    if totals.uploads > 0 {
        let (size, uploads) = (size(totals.upload_bytes, totals.upload_objects), count(totals.uploads, "upload"));
        lines.push(format!("unfinished {size} of {uploads}; `c3 uploads` lists them"));
    }
    if totals.unused_objects > 0 {
        let size = size(totals.unused_bytes, totals.unused_objects);
        lines.push(format!(
            "unused     {size} in no document: of interrupted and running puts, and of deleted documents"
        ));
    }
    if totals.damaged > 0 {
        lines.push(format!("damaged    {}; run `c3 fsck`", count(totals.damaged, "document")));
    }
    lines.join("\n")
}
