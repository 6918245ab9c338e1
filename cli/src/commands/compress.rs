//! `c3 compress`: compresses a text to a safetensors file without storing it.

use std::path::PathBuf;
use std::time::Instant;

use crate::args::{RemoteArgs, WriteArgs};
use crate::error::CliError;
use crate::input::TextInput;
use crate::latents_file;
use crate::output::{Output, Seconds};

/// Arguments of `compress`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompressArgs {
    /// UTF-8 text; `-` is standard input
    file: PathBuf,
    /// Safetensors file to write; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    pub(super) write: WriteArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Compresses the text and writes the file.
pub(crate) async fn run(args: CompressArgs) -> Result<(), CliError> {
    let TextInput { name, reader, bytes, .. } = TextInput::open(&args.file).await?;
    let output = Output::open(Some(&args.output)).await?;
    let client = args.remote.connect_to_write(&args.write).await?;
    let started = Instant::now();
    let progress = output.progress("compress", bytes);
    let of_text = |error: CliError| error.in_file(&name);
    let windows = client.compress(reader, &args.write.options(bytes)).await.map_err(|error| of_text(error.into()))?;
    let (windows, summary) = latents_file::save(windows, None, progress, output).await.map_err(of_text)?;

    let total = started.elapsed().as_secs_f64();
    let mut report = latents_file::report(&windows);
    report.seconds = Seconds { compress: Some(total), total, ..Seconds::default() };
    args.remote.format.print_summary(summary, &report, &report)
}
