//! `c3 roundtrip`: stores files, reads them back and compares every byte.

use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use c3_client::{ByteRange, Client, Error, Stage};
use futures::{Stream, TryStreamExt};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::args::{RemoteArgs, TargetArgs, WriteArgs, check_ratios};
use crate::embedded::with_gateway;
use crate::error::{CliError, FAILED};
use crate::input::{Reopen, TextInput};
use crate::kept;
use crate::output::{Progress, Report, StageBars, print};
use crate::upload;

/// Arguments of `roundtrip`.
#[derive(Debug, clap::Args)]
pub(crate) struct RoundtripArgs {
    /// UTF-8 texts
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) write: WriteArgs,
    #[command(flatten)]
    target: TargetArgs,
}

/// Stores, reads and compares each file. Fails if any text read back differs from its file.
pub(crate) async fn run(args: RoundtripArgs) -> Result<(), CliError> {
    let started = Instant::now();
    // Report an unusable file before any server is started.
    for file in &args.files {
        open_twice(file).await?;
    }
    kept::set(match args.target.remote.gateway {
        Some(_) => "documents stored so far stay stored",
        None => "nothing was kept",
    });
    let work = async |gateway: &RemoteArgs| roundtrip_all(&args, gateway).await;
    let (mut reports, startup) = with_gateway(&args.target, work).await?;
    if let Some(first) = reports.first_mut() {
        first.seconds.start = startup.map(|startup| startup.as_secs_f64());
    }
    let mut sum = Report::sum(reports);
    sum.seconds.total = started.elapsed().as_secs_f64();
    let identical = sum.identical == Some(true);
    let mut text = String::new();
    if !sum.files.is_empty() {
        text = format!("all files\n{sum}\n");
    }
    text += if identical { "identical: yes" } else { "identical: no" };
    args.target.remote.format.print(text, &sum)?;
    if identical { Ok(()) } else { Err(CliError::Reported(FAILED)) }
}

/// Processes the files one after another. Without `--json`, prints each report as soon as it is complete.
async fn roundtrip_all(args: &RoundtripArgs, gateway: &RemoteArgs) -> Result<Vec<Report>, CliError> {
    let client = gateway.connect_to_nodes(&Stage::ALL).await?;
    check_ratios(&client, &args.write).await?;
    let mut reports = Vec::new();
    for file in &args.files {
        let report = roundtrip(&client, file, &args.write).await?;
        if !args.target.remote.format.json {
            print(format_args!("{report}\n"))?;
        }
        reports.push(report);
    }
    Ok(reports)
}

async fn roundtrip(client: &Client, file: &Path, write: &WriteArgs) -> Result<Report, CliError> {
    let (input, original) = open_twice(file).await?;
    let options = write.options(input.bytes);
    let progress = StageBars::start(&options, input.bytes);
    let (stored, elapsed) = upload::store(client, input, &options, progress).await?;
    let mut report = Report::of_stored(&stored, elapsed);
    let started = Instant::now();
    let text = client.get(&stored.document.id.to_string(), ByteRange::default()).await?;
    let original = original.open().await.map_err(|error| CliError::at(file, &error))?;
    report.identical = Some(is_identical(text, original, stored.document.bytes, file).await?);
    let get = started.elapsed().as_secs_f64();
    report.seconds.get = Some(get);
    report.seconds.total += get;
    report.file = Some(file.display().to_string());
    Ok(report)
}

/// Opens a file. Also returns the source from which it can be read a second time, and fails if there is none.
async fn open_twice(file: &Path) -> Result<(TextInput, Reopen), CliError> {
    let input = TextInput::open(file).await?;
    match input.reopen.clone() {
        Some(again) => Ok((input, again)),
        None => Err(CliError::Failed(format!("{}: can be read only once: give a regular file", input.name))),
    }
}

/// Returns true if `text` and `file` have exactly the same bytes. `bytes` is only the total of the progress bar.
async fn is_identical(
    mut text: impl Stream<Item = Result<Bytes, Error>> + Unpin,
    mut file: impl AsyncRead + Unpin,
    bytes: u64,
    path: &Path,
) -> Result<bool, CliError> {
    let progress = Progress::start("get", Some(bytes));
    let mut expected = Vec::new();
    while let Some(piece) = text.try_next().await? {
        expected.clear();
        let mut next = (&mut file).take(piece.len() as u64);
        next.read_to_end(&mut expected).await.map_err(|error| CliError::at(path, &error))?;
        if expected != piece {
            return Ok(false);
        }
        progress.add(piece.len() as u64);
    }
    let rest = file.read(&mut [0]).await.map_err(|error| CliError::at(path, &error))?;
    Ok(rest == 0)
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    async fn is_identical_to(pieces: &[&'static str], file: &[u8]) -> bool {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        is_identical(stream::iter(pieces), file, file.len() as u64, Path::new("file")).await.unwrap()
    }

    #[tokio::test]
    async fn only_the_same_bytes_are_identical() {
        assert!(is_identical_to(&["ab", "", "c"], b"abc").await);
        assert!(is_identical_to(&[], b"").await);
        for wrong in [&["ab"][..], &["abd"], &["abcd"], &["abc", "d"], &[]] {
            assert!(!is_identical_to(wrong, b"abc").await, "{wrong:?}");
        }
    }
}
