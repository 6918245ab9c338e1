//! `c3 get`: a stored document's text, or a part of it.

use std::path::PathBuf;
use std::time::Instant;

use c3_client::{ByteRange, Client};
use futures::TryStreamExt;

use crate::args::{RemoteArgs, id};
use crate::failure::Failure;
use crate::get_many::GetManyArgs;
use crate::output::Output;
use crate::report::{Report, Seconds};
use crate::{get_many, progress, report};

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// The document's id, enough first digits of it, or @NAME; several, or what `--all` or `--prefix` names, go to a folder
    #[arg(value_parser = id, value_name = "ID", required_unless_present_any = ["all", "prefix"])]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) many: GetManyArgs,
    /// Bytes from A up to but not including B; either may be left out
    #[arg(
        long,
        value_name = "A..B",
        default_value = "..",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub(crate) range: ByteRange,
    /// The file or the folder to write; `-` is standard output
    #[arg(short, long, value_name = "FILE|DIR")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Writes the text and, where it does not go to standard output, reports; many go the way of [`get_many`].
pub(crate) async fn run(args: GetArgs) -> Result<(), Failure> {
    let id = match &args.ids[..] {
        [id] if !get_many::is_folder(args.output.as_deref()) => id,
        _ => return get_many::run(args).await,
    };
    let mut output = Output::open(args.output.as_deref())?;
    let client = Client::connect(&args.remote.gateway).await?;
    let begun = Instant::now();
    let mut text = client.get(id, args.range).await?;
    let bytes = text.range().end - text.range().start;
    let progress = progress::bar("get", Some(bytes));
    while let Some(piece) = text.try_next().await? {
        output.write(&piece).await?;
        progress.more(piece.len() as u64);
    }
    drop(progress);
    let to_stdout = output.is_stdout();
    output.finish().await?;

    let total = begun.elapsed().as_secs_f64();
    let seconds = Seconds { get: Some(total), total, ..Seconds::default() };
    let report = Report { bytes, seconds, ..Report::of(text.document()) };
    match (args.remote.json, to_stdout) {
        (true, _) => report::tell(&report.json(), to_stdout),
        (false, true) => Ok(()),
        (false, false) => report::tell(&format!("{bytes} bytes in {total:.2} s"), to_stdout),
    }
}
