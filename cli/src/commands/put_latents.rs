//! `c3 put-latents`: latents that `c3 latents` wrote become a stored document again.

use std::path::PathBuf;
use std::time::Instant;

use c3_client::Client;
use futures::stream;

use crate::args::RemoteArgs;
use crate::failure::Failure;
use crate::output::print;
use crate::report::{Report, Seconds};
use crate::tensors::{self, Latents};

/// Arguments of `put-latents`.
#[derive(Debug, clap::Args)]
pub(crate) struct PutLatentsArgs {
    /// The safetensors file that `c3 latents` wrote; `-` is standard input
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Hands the latents to the gateway, which decodes them and keeps them where every hash holds.
pub(crate) async fn run(args: PutLatentsArgs) -> Result<(), Failure> {
    let Latents { document, windows } = tensors::open(&args.file).await?;
    let document = document.ok_or_else(|| {
        let problem = "it does not say which document it is: give a file that `c3 latents` wrote";
        Failure::WorkFailed(format!("{}: {problem}", args.file.display()))
    })?;
    let client = Client::connect(&args.remote.gateway).await?;
    let begun = Instant::now();
    let stored = client.put_latents(&document, stream::iter(windows)).await?;
    let total = begun.elapsed().as_secs_f64();
    let seconds = Seconds { put: Some(total), total, ..Seconds::default() };
    let report = Report { seconds, ..Report::of(&stored) };
    print(&if args.remote.json { report.json() } else { report.to_string() })
}
