//! `c3 reindex`: lets search find documents that were stored without search.

use c3_client::{Error, ListQuery};
use clap_complete::ArgValueCompleter;
use futures::TryStreamExt;
use serde_json::json;
use tonic::Code;

use super::ls::readable;
use crate::args::{RemoteArgs, document_ref};
use crate::complete;
use crate::error::CliError;
use crate::kept;
use crate::output::format::count;
use crate::output::{Progress, warn};

/// Arguments of `reindex`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReindexArgs {
    /// Documents: ids, unique prefixes of ids, or @NAMEs
    #[arg(value_parser = document_ref, required_unless_present = "all", value_name = "ID",
        add = ArgValueCompleter::new(complete::documents))]
    ids: Vec<String>,
    /// All stored documents. Those that search finds already are skipped, so the command can be repeated
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Reindexes the documents one after another. With `--all`, skips documents without verification, with a warning.
pub(crate) async fn run(args: ReindexArgs) -> Result<(), CliError> {
    let client = args.remote.connect().await?;
    let ids = match args.all {
        true => {
            let documents = readable(&client, &ListQuery::default());
            documents.map_ok(|document| document.id.to_string()).try_collect().await?
        }
        false => args.ids,
    };
    let progress = Progress::start("reindex", None);
    let total = ids.len() as u64;
    let (mut documents, mut windows) = (0, 0);
    for (done, id) in (0..).zip(&ids) {
        progress.set_documents(done, total);
        kept::set(format!("{done} of {total} documents are done; repeat the command for the rest"));
        match client.reindex(id).await {
            Ok(added) => {
                documents += u64::from(added > 0);
                windows += added;
            }
            // Stored without verification, or deleted meanwhile.
            Err(Error::Call { code: Code::FailedPrecondition | Code::NotFound, message, .. }) if args.all => {
                warn(message)
            }
            Err(error) => return Err(error.into()),
        }
    }
    drop(progress);
    let text = format!("reindexed: {}, {}", count(documents, "document"), count(windows, "window"));
    args.remote.format.print(text, &json!({ "documents": documents, "windows": windows }))
}
