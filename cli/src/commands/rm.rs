//! `c3 rm`: deletes a document.

use clap_complete::ArgValueCompleter;
use serde_json::json;

use crate::args::{RemoteArgs, document_ref};
use crate::complete;
use crate::error::CliError;

/// Arguments of `rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Document: its id, a unique prefix of it, or @NAME
    #[arg(value_parser = document_ref, add = ArgValueCompleter::new(complete::documents))]
    id: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Deletes the document.
pub(crate) async fn run(args: RmArgs) -> Result<(), CliError> {
    let id = args.remote.connect().await?.delete(&args.id).await?.to_string();
    args.remote.format.print(format_args!("deleted {id}"), &json!({ "id": id, "deleted": true }))
}
