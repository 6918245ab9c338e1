//! `c3 get`: reads a document or a range of it to a file or standard output, or many documents into a directory.

mod many;

use std::path::{Path, PathBuf};
use std::time::Instant;

use c3_client::{ByteRange, Stage};
use clap_complete::ArgValueCompleter;
use futures::TryStreamExt;

use crate::args::{RemoteArgs, document_ref, positive};
use crate::complete;
use crate::error::CliError;
use crate::kept;
use crate::output::{Output, Report, Seconds};

/// Default number of documents read in parallel. Windows (parts of a text) of several documents share batches on the
/// decoder nodes.
const JOBS: usize = 16;

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// Documents: ids, unique prefixes of ids, or @NAMEs; several need --output DIR
    #[arg(value_parser = document_ref, value_name = "ID", required_unless_present_any = ["all", "prefix"],
        add = ArgValueCompleter::new(complete::documents))]
    ids: Vec<String>,
    /// All stored documents
    #[arg(long, conflicts_with_all = ["ids", "prefix"])]
    all: bool,
    /// All documents whose id begins with these digits
    #[arg(long, value_name = "DIGITS", conflicts_with = "ids")]
    prefix: Option<String>,
    /// Documents to read in parallel
    #[arg(long, value_name = "N", default_value_t = JOBS, value_parser = positive)]
    jobs: usize,
    /// Bytes to read, from A up to but excluding B; without A from the start, without B to the end
    #[arg(long, value_name = "A..B", default_value = "..", hide_default_value = true, allow_hyphen_values = true)]
    pub(crate) range: ByteRange,
    /// File to write, or directory that gets a file for each document [default: standard output]
    #[arg(short, long, value_name = "FILE|DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Reads the documents.
pub(crate) async fn run(args: GetArgs) -> Result<(), CliError> {
    let id = match &args.ids[..] {
        [id] if !is_directory(args.output.as_deref()) => id,
        _ => return many::run(args).await,
    };
    if let Some(file) = &args.output {
        kept::set(format!("{} is as before, unless it is a pipe or a device", file.display()));
    }
    let mut output = Output::open(args.output.as_deref()).await?;
    let client = args.remote.connect_to_nodes(&[Stage::Decoder]).await?;
    let started = Instant::now();
    let mut text = client.get(id, args.range).await?;
    let bytes = text.range().end - text.range().start;
    let progress = output.progress("get", Some(bytes));
    while let Some(piece) = text.try_next().await? {
        output.write(&piece).await?;
        progress.add(piece.len() as u64);
    }
    drop(progress);
    let summary = output.finish().await?;

    let total = started.elapsed().as_secs_f64();
    let seconds = Seconds { get: Some(total), total, ..Seconds::default() };
    let report = Report { bytes, seconds, ..Report::of_document(text.document()) };
    args.remote.format.print_summary(summary, format_args!("{bytes} bytes in {total:.2} s"), &report)
}

/// Returns true for an existing directory and for a path with a trailing slash.
fn is_directory(output: Option<&Path>) -> bool {
    output.is_some_and(|path| path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_exists_or_has_a_trailing_slash() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_directory(Some(folder.path())) && is_directory(Some(Path::new("new/"))));
        assert!(!is_directory(Some(Path::new("new"))) && !is_directory(None));
    }
}
