//! `c3 label`: sets, removes and shows labels of a document.

use c3_client::{DocumentLabels, Label, Labels};
use clap_complete::ArgValueCompleter;
use serde_json::json;

use crate::args::{PreconditionArgs, RemoteArgs, document_ref};
use crate::complete;
use crate::error::CliError;

/// Arguments of `label`.
#[derive(Debug, clap::Args)]
pub(crate) struct LabelArgs {
    /// Document: its id, a unique prefix of it, or @NAME
    #[arg(value_parser = document_ref, add = ArgValueCompleter::new(complete::documents))]
    id: String,
    /// Labels to set; other labels stay. Without labels to set or remove, the current labels are shown
    #[arg(value_name = "KEY=VALUE")]
    set: Vec<Label>,
    /// Label to remove; may be repeated
    #[arg(long, value_name = "KEY")]
    remove: Vec<String>,
    #[command(flatten)]
    precondition: PreconditionArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Changes the labels, or shows them.
pub(crate) async fn run(args: LabelArgs) -> Result<(), CliError> {
    let client = args.remote.connect().await?;
    let DocumentLabels { labels, token, .. } = match args.set.is_empty() && args.remove.is_empty() {
        true => client.labels(&args.id).await?,
        false => {
            let set = Labels::new(args.set.into_iter().map(Into::into))?;
            client.set_labels(&args.id, &set, &args.remove, &args.precondition.expected()).await?
        }
    };
    let labels_text: String = labels.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    let last = if token.is_empty() { "no labels".to_owned() } else { format!("token {token}") };
    args.remote.format.print(labels_text + &last, &json!({ "labels": labels, "token": token }))
}
