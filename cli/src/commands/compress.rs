//! `c3 compress` and `c3 decompress`: nothing is stored.

use std::path::PathBuf;
use std::time::Instant;

use c3_client::{Client, Window, pb};
use futures::{TryStreamExt, stream};

use crate::args::RemoteArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::remote::connect_to_write;
use crate::report::{Report, Seconds};
use crate::source::Source;
use crate::write::WriteArgs;
use crate::{progress, report, tensors};

/// Arguments of `compress`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompressArgs {
    /// The text, UTF-8; `-` is standard input
    pub(crate) file: PathBuf,
    /// The safetensors file to write; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Arguments of `decompress`.
#[derive(Debug, clap::Args)]
pub(crate) struct DecompressArgs {
    /// The safetensors file; `-` is standard input
    pub(crate) file: PathBuf,
    /// Where to write; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Answer this about the text, as the published chat does, where the model takes a prompt
    #[arg(long)]
    pub(crate) prompt: Option<String>,
    /// Most tokens of the answer [default: 4096]
    #[arg(long, value_name = "N", requires = "prompt", default_value_t = 0, hide_default_value = true)]
    pub(crate) tokens_max: u32,
    /// Name of the model, where the gateway serves several
    #[arg(long, value_name = "NAME")]
    pub(crate) cascade: Option<String>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Writes a text's latents.
pub(crate) async fn compress(args: CompressArgs) -> Result<(), Failure> {
    let source = Source::open(&args.file).await?;
    let output = Output::open(Some(&args.output))?;
    let to_stdout = output.is_stdout();
    let client = connect_to_write(&args.remote.gateway, &args.write).await?;
    let begun = Instant::now();
    let progress = progress::bar("compress", source.bytes);
    let answers = client.compress(source.text, &args.write.options(source.bytes)).await?;
    let windows = tensors::save(answers, None, progress, output).await?;

    let total = begun.elapsed().as_secs_f64();
    let report =
        Report { seconds: Seconds { compress: Some(total), total, ..Seconds::default() }, ..of(&windows) };
    match (args.remote.json, to_stdout) {
        (true, _) => report::tell(&report.json(), to_stdout),
        (false, true) => Ok(()),
        (false, false) => report::tell(&report.to_string(), to_stdout),
    }
}

/// Windows that are not stored, as a report.
fn of(windows: &[Window]) -> Report {
    let corrections = windows.iter().map(|window| Some(window.corrections.as_ref()?.as_slice().len() as u64));
    let corrections: Option<u64> = corrections.sum();
    Report {
        bytes: windows.last().map_or(0, |last| last.bytes.end),
        tokens: windows.iter().map(|window| u64::from(window.group.tokens())).sum(),
        latents: windows.iter().map(|window| u64::from(window.group.latents())).sum(),
        ratio: windows.first().map_or(0, |first| first.group.ratio()),
        verified: corrections.is_some(),
        corrections,
        ..Report::default()
    }
}

/// Writes the text of latents, or an answer about it.
pub(crate) async fn decompress(args: DecompressArgs) -> Result<(), Failure> {
    let windows = tensors::open(&args.file).await?.windows;
    let mut output = Output::open(args.output.as_deref())?;
    let mut report = of(&windows);
    let client = Client::connect(&args.remote.gateway).await?;
    let options = pb::DecompressOptions {
        cascade: args.cascade.unwrap_or_default(),
        tokens_max: args.tokens_max,
        prompt: args.prompt,
    };
    let begun = Instant::now();
    // An answer's length nobody knows beforehand.
    let bytes = options.prompt.is_none().then_some(report.bytes);
    let progress = progress::bar("decompress", bytes);
    let mut text = client.decompress(stream::iter(windows), options).await?;
    report.bytes = 0;
    while let Some(piece) = text.try_next().await? {
        output.write(&piece).await?;
        report.bytes += piece.len() as u64;
        progress.done(report.bytes);
    }
    drop(progress);
    let to_stdout = output.is_stdout();
    output.finish().await?;

    let total = begun.elapsed().as_secs_f64();
    report.seconds = Seconds { total, ..Seconds::default() };
    match (args.remote.json, to_stdout) {
        (true, _) => report::tell(&report.json(), to_stdout),
        (false, true) => Ok(()),
        (false, false) => report::tell(&format!("{} bytes in {total:.2} s", report.bytes), to_stdout),
    }
}
