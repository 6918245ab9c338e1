//! `c3 latents`: lists the windows of a document, or exports their latents to a safetensors file. A window is a part of
//! the text that the model compresses into one group of latents.

use std::path::PathBuf;

use c3_client::{Client, Window};
use clap_complete::ArgValueCompleter;
use futures::TryStreamExt;
use serde_json::json;

use crate::args::{RemoteArgs, document_ref};
use crate::complete;
use crate::error::CliError;
use crate::latents_file::{self, WindowRecord};
use crate::output::format::count;
use crate::output::{Align, Cell, Column, Format, Output, Table, describe, print};

const COLUMNS: &[Column] = &[
    ("window", Align::Right),
    ("shard", Align::Right),
    ("bytes", Align::Left),
    ("tokens", Align::Right),
    ("latents", Align::Right),
    ("corrections", Align::Right),
];

/// Arguments of `latents`.
#[derive(Debug, clap::Args)]
pub(crate) struct LatentsArgs {
    /// Document: its id, a unique prefix of it, or @NAME
    #[arg(value_parser = document_ref, add = ArgValueCompleter::new(complete::documents))]
    id: String,
    /// Safetensors file to write; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Lists the windows or exports their latents.
pub(crate) async fn run(args: LatentsArgs) -> Result<(), CliError> {
    let format = args.remote.format;
    let output = match &args.output {
        Some(path) => Some(Output::open(Some(path)).await?),
        None => None,
    };
    let client = args.remote.connect().await?;
    match output {
        Some(output) => export(&client, &args.id, output, format).await,
        None if format.json => {
            let windows: Vec<Window> = client.latents(&args.id).await?.try_collect().await?;
            let records: Vec<WindowRecord> = windows.iter().map(WindowRecord::of).collect();
            format.print("", &json!({ "windows": records }))
        }
        None => list(&client, &args.id).await,
    }
}

/// Prints the document, then one line for each window as it arrives.
async fn list(client: &Client, id: &str) -> Result<(), CliError> {
    let mut latents = client.latents(id).await?;
    print(describe(latents.document()))?;
    print("")?;
    let mut table = Table::new(COLUMNS);
    let mut number = 0;
    while let Some(window) = latents.try_next().await? {
        let Window { shard, bytes, group, corrections, .. } = window;
        let bytes = format!("{}..{}", bytes.start, bytes.end);
        let (tokens, latents) = (group.tokens(), group.latents());
        let corrections = corrections.map_or("-".to_owned(), |known| known.as_slice().len().to_string());
        let cells =
            [number.to_string(), shard.to_string(), bytes, tokens.to_string(), latents.to_string(), corrections];
        table.row(cells.map(Cell::from))?;
        number += 1;
    }
    table.finish()
}

async fn export(client: &Client, id: &str, output: Output, format: Format) -> Result<(), CliError> {
    let latents = client.latents(id).await?;
    let document = latents.document().clone();
    let progress = output.progress("latents", Some(document.bytes));
    let (windows, summary) = latents_file::save(latents, Some(&document), progress, output).await?;
    let text = format!("{} in {}", count(document.latents, "latent"), count(windows.len() as u64, "window"));
    let record = json!({ "id": document.id.to_string(), "windows": windows.len(), "latents": document.latents });
    format.print_summary(summary, text, &record)
}
