//! `c3 latents`: lists the windows of a document, or exports their latents to a safetensors file. A window is a part of
//! the text that the model compresses into one group of latents.

use std::path::PathBuf;

use c3_client::{Client, Window};
use futures::TryStreamExt;
use serde_json::json;

use crate::args::{RemoteArgs, document_ref};
use crate::error::CliError;
use crate::latents_file::{self, WindowRecord};
use crate::output::format::count;
use crate::output::{Format, Output, describe, print};

/// Arguments of `latents`.
#[derive(Debug, clap::Args)]
pub(crate) struct LatentsArgs {
    /// Document: its id, a unique prefix of it, or @NAME
    #[arg(value_parser = document_ref)]
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
    print("\nwindow  shard  bytes                     tokens  latents  corrections")?;
    let mut number = 0;
    while let Some(window) = latents.try_next().await? {
        let Window { shard, bytes, group, corrections, .. } = window;
        let bytes = format!("{}..{}", bytes.start, bytes.end);
        let (tokens, latents) = (group.tokens(), group.latents());
        let corrections = corrections.map_or("-".to_owned(), |known| known.as_slice().len().to_string());
        print(format_args!("{number:6}  {shard:5}  {bytes:24}  {tokens:6}  {latents:7}  {corrections:>11}"))?;
        number += 1;
    }
    Ok(())
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
