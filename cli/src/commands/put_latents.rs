//! `c3 put-latents`: stores a document from a file that `c3 latents` wrote.

use std::path::PathBuf;
use std::time::Instant;

use c3_client::Stage;
use futures::stream;

use crate::args::RemoteArgs;
use crate::error::CliError;
use crate::input::display_name;
use crate::latents_file::{self, Latents};
use crate::output::{Report, Seconds};

/// Arguments of `put-latents`.
#[derive(Debug, clap::Args)]
pub(crate) struct PutLatentsArgs {
    /// Safetensors file; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Sends the latents to the gateway, which stores the document only if the latents decode and every hash matches.
pub(crate) async fn run(args: PutLatentsArgs) -> Result<(), CliError> {
    let Latents { document, windows } = latents_file::open(&args.file).await?;
    let file = display_name(&args.file);
    let document = document.ok_or_else(|| {
        CliError::Failed(format!("{file}: the file describes no stored document; give a file that `c3 latents` wrote"))
    })?;
    let client = args.remote.connect_to_nodes(&[Stage::Decoder]).await?;
    let started = Instant::now();
    let stored = client.put_latents(&document, stream::iter(windows)).await;
    let stored = stored.map_err(|error| CliError::from(error).in_file(&file))?;
    let total = started.elapsed().as_secs_f64();
    let seconds = Seconds { put: Some(total), total, ..Seconds::default() };
    let report = Report { seconds, stored_bytes: Some(stored.stored_bytes), ..Report::of_document(&stored) };
    args.remote.format.print(&report, &report)
}
