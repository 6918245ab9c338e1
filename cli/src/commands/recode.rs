//! `c3 recode`: stored documents are written anew with other options.

use std::time::Instant;

use c3_client::{Client, ListQuery};
use futures::TryStreamExt;

use crate::args::{RemoteArgs, id};
use crate::failure::Failure;
use crate::list::readable;
use crate::output::print;
use crate::progress;
use crate::remote::connect_to_write;
use crate::report::Report;
use crate::write::WriteArgs;

/// Arguments of `recode`.
#[derive(Debug, clap::Args)]
pub(crate) struct RecodeArgs {
    /// The documents' ids, enough first digits of each, or @NAME
    #[arg(value_parser = id, required_unless_present = "all", value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Every stored document
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Writes each document anew and reports. Ends at the first that fails; what was done before stays done.
pub(crate) async fn run(args: RecodeArgs) -> Result<(), Failure> {
    let client = connect_to_write(&args.remote.gateway, &args.write).await?;
    let ids = match args.all {
        true => {
            readable(&client, &ListQuery::default())
                .map_ok(|document| document.id.to_string())
                .try_collect()
                .await?
        }
        false => args.ids.clone(),
    };
    let mut reports = Vec::new();
    for id in ids {
        let report = one(&client, &id, &args).await?;
        if !args.remote.json {
            print(&format!("{report}\n"))?;
        }
        reports.push(report);
    }
    let count = reports.len();
    match args.remote.json {
        true => print(&Report::together(reports).json()),
        false => print(&format!("recoded: {count}")),
    }
}

async fn one(client: &Client, id: &str, args: &RecodeArgs) -> Result<Report, Failure> {
    let begun = Instant::now();
    let bytes = client.stat(id).await?.bytes;
    let progress = progress::bar("recode", Some(bytes));
    let put = client.recode(id, &args.write.options(None)).await?;
    let stored = put.finish_with(|done| progress.told(&done)).await?;
    Ok(Report::of_stored(&stored, begun.elapsed()))
}
