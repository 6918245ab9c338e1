//! `c3 latents`: a document's latent groups, listed or as a safetensors file.

use std::path::PathBuf;

use c3_client::{Client, Window};
use futures::TryStreamExt;
use indicatif::HumanCount;

use crate::args::{RemoteArgs, id};
use crate::failure::Failure;
use crate::output::{Output, print};
use crate::tensors::{self, Record};
use crate::{progress, report};

/// Arguments of `latents`.
#[derive(Debug, clap::Args)]
pub(crate) struct LatentsArgs {
    /// The document's id, enough first digits of it, or @NAME
    #[arg(value_parser = id)]
    pub(crate) id: String,
    /// The safetensors file to write; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Lists the groups or writes them.
pub(crate) async fn run(args: LatentsArgs) -> Result<(), Failure> {
    let client = Client::connect(&args.remote.gateway).await?;
    match &args.output {
        Some(path) => {
            let output = Output::open(Some(path))?;
            write(&client, &args.id, output, args.remote.json).await
        }
        None if args.remote.json => {
            let windows: Vec<Window> = client.latents(&args.id).await?.try_collect().await?;
            let groups: Vec<Record> = windows.iter().map(Record::of).collect();
            print(&report::json(&serde_json::json!({ "windows": groups })))
        }
        None => list(&client, &args.id).await,
    }
}

/// One line a window, as they come.
async fn list(client: &Client, id: &str) -> Result<(), Failure> {
    let mut latents = client.latents(id).await?;
    print(&report::describe(latents.document()))?;
    print("\nwindow  shard  bytes                     tokens  latents  corrections")?;
    let mut number = 0;
    while let Some(window) = latents.try_next().await? {
        let Window { shard, bytes, group, corrections, .. } = window;
        let bytes = format!("{}..{}", bytes.start, bytes.end);
        let (tokens, rows) = (group.tokens(), group.latents());
        let corrections = corrections.map_or("-".to_owned(), |known| known.as_slice().len().to_string());
        print(&format!("{number:6}  {shard:5}  {bytes:24}  {tokens:6}  {rows:7}  {corrections:>11}"))?;
        number += 1;
    }
    Ok(())
}

/// All windows into one file.
async fn write(client: &Client, id: &str, output: Output, json: bool) -> Result<(), Failure> {
    let latents = client.latents(id).await?;
    let (document, to_stdout) = (latents.document().clone(), output.is_stdout());
    let progress = progress::bar("latents", Some(document.bytes));
    let windows = tensors::save(latents, Some(&document), progress, output).await?;
    let (id, groups, rows) = (document.id, windows.len(), document.latents);
    match (json, to_stdout) {
        (true, _) => {
            let line = serde_json::json!({ "id": id.to_string(), "windows": groups, "latents": rows });
            report::tell(&report::json(&line), to_stdout)
        }
        (false, true) => Ok(()),
        (false, false) => {
            print(&format!("{} latents in {} windows", HumanCount(rows), HumanCount(groups as u64)))
        }
    }
}
