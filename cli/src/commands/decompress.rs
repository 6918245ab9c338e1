//! `c3 decompress`: decompresses a safetensors file to its text, or to a model's answer about the text.

use std::path::PathBuf;
use std::time::Instant;

use c3_client::{DecompressOptions, Prompt, Stage};
use futures::{TryStreamExt, stream};

use crate::args::RemoteArgs;
use crate::error::CliError;
use crate::input::display_name;
use crate::latents_file;
use crate::output::{Output, Seconds};

/// Arguments of `decompress`.
#[derive(Debug, clap::Args)]
pub(crate) struct DecompressArgs {
    /// Safetensors file; `-` is standard input
    file: PathBuf,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the model's answer to this question about the text, instead of the text
    ///
    /// Needs a model that takes prompts, such as the published C3 weights.
    #[arg(long)]
    prompt: Option<String>,
    /// Maximum tokens of the answer [default: 4096]
    #[arg(long, value_name = "N", requires = "prompt", default_value_t = 0, hide_default_value = true)]
    tokens_max: u32,
    /// Name of the model to use, if the gateway serves several
    #[arg(long, value_name = "NAME")]
    cascade: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Decompresses the file and writes the text or the answer.
pub(crate) async fn run(args: DecompressArgs) -> Result<(), CliError> {
    let windows = latents_file::open(&args.file).await?.windows;
    let mut output = Output::open(args.output.as_deref()).await?;
    let mut report = latents_file::report(&windows);
    let client = args.remote.connect_to_nodes(&[Stage::Decoder]).await?;
    let prompt = args.prompt.map(|text| Prompt { text, tokens_max: args.tokens_max });
    let options = DecompressOptions { cascade: args.cascade, prompt };
    let started = Instant::now();
    // The length of an answer is not known in advance.
    let bytes = options.prompt.is_none().then_some(report.bytes);
    let progress = output.progress("decompress", bytes);
    let name = display_name(&args.file);
    let of_file = |error: c3_client::Error| CliError::from(error).in_file(&name);
    let mut text = client.decompress(stream::iter(windows), &options).await.map_err(of_file)?;
    report.bytes = 0;
    while let Some(piece) = text.try_next().await.map_err(of_file)? {
        output.write(&piece).await?;
        report.bytes += piece.len() as u64;
        progress.set(report.bytes);
    }
    drop(progress);
    let summary = output.finish().await?;

    let total = started.elapsed().as_secs_f64();
    report.seconds = Seconds { total, ..Seconds::default() };
    let text = format!("{} bytes in {total:.2} s", report.bytes);
    args.remote.format.print_summary(summary, text, &report)
}
