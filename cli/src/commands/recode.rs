//! `c3 recode`: compresses stored documents again with other options.

use std::time::Instant;

use c3_client::{Client, ListQuery, Stage, WriteOptions};
use clap_complete::ArgValueCompleter;
use futures::TryStreamExt;

use super::ls::readable;
use crate::args::{RemoteArgs, WriteArgs, check_ratios, document_ref, lifetime};
use crate::complete;
use crate::error::CliError;
use crate::kept;
use crate::output::{Progress, Report, StageBars, print};

/// Arguments of `recode`.
#[derive(Debug, clap::Args)]
pub(crate) struct RecodeArgs {
    /// Documents: ids, unique prefixes of ids, or @NAMEs
    #[arg(value_parser = document_ref, required_unless_present = "all", value_name = "ID",
        add = ArgValueCompleter::new(complete::documents))]
    ids: Vec<String>,
    /// All stored documents
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Time until the documents expire [default: as before]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    ttl: Option<u64>,
    #[command(flatten)]
    pub(super) write: WriteArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Recodes the documents one after another, until one fails. `--all` skips unreadable documents with a warning.
pub(crate) async fn run(args: RecodeArgs) -> Result<(), CliError> {
    // A decoder is needed even with `--no-verify`, since the gateway decodes the stored text before it compresses it
    // again.
    let client = args.remote.connect_to_nodes(&Stage::ALL).await?;
    check_ratios(&client, &args.write).await?;
    let ids = match args.all {
        true => {
            let documents = readable(&client, &ListQuery::default());
            documents.map_ok(|document| document.id.to_string()).try_collect().await?
        }
        false => args.ids.clone(),
    };
    let options = WriteOptions { ttl_seconds: args.ttl, ..args.write.options(None) };
    let mut reports = Vec::with_capacity(ids.len());
    let total = ids.len();
    for (number, id) in ids.into_iter().enumerate() {
        kept::set(format!("recoded {number} of {total} documents; the others are as before"));
        let _bar = (total > 1).then(|| Progress::start(&format!("recode {}/{total}", number + 1), None));
        let report = recode(&client, &id, &options).await?;
        if !args.remote.format.json {
            print(format_args!("{report}\n"))?;
        }
        reports.push(report);
    }
    let text = format!("recoded: {}", reports.len());
    args.remote.format.print(text, &Report::sum(reports))
}

async fn recode(client: &Client, id: &str, options: &WriteOptions) -> Result<Report, CliError> {
    let started = Instant::now();
    let bytes = client.stat(id).await?.bytes;
    let progress = StageBars::start(options, Some(bytes));
    let put = client.recode(id, options).await?;
    let stored = put.finish_with(|done| progress.update(&done)).await?;
    Ok(Report::of_stored(&stored, started.elapsed()))
}
