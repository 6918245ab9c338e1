//! `c3 roundtrip`: files are put, got and compared byte for byte.

use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use c3_client::{ByteRange, Client, Error};
use futures::{Stream, TryStreamExt};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::args::AnywhereArgs;
use crate::failure::Failure;
use crate::output::print;
use crate::report::Report;
use crate::source::Source;
use crate::stack::Stack;
use crate::write::WriteArgs;
use crate::{progress, put, remote};

/// Arguments of `roundtrip`.
#[derive(Debug, clap::Args)]
pub(crate) struct RoundtripArgs {
    /// The texts, UTF-8
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    #[command(flatten)]
    pub(crate) at: AnywhereArgs,
}

/// Puts, gets and compares each file. Fails where one differs.
pub(crate) async fn run(args: RoundtripArgs) -> Result<(), Failure> {
    let begun = Instant::now();
    // Before anything is started for it.
    for file in &args.files {
        Source::open(file).await?;
    }
    let mut reports = Vec::new();
    match &args.at.gateway {
        Some(gateway) => each(&args, gateway, &mut reports).await?,
        None => {
            let mut stack = Stack::temporary(&args.at.model).await?;
            let started = begun.elapsed().as_secs_f64();
            let gateway = stack.gateway().to_owned();
            stack.until_ended(each(&args, &gateway, &mut reports)).await?;
            stack.stop().await?;
            reports.iter_mut().take(1).for_each(|first| first.seconds.start = Some(started));
        }
    }
    let mut together = Report::together(reports);
    together.seconds.total = begun.elapsed().as_secs_f64();
    let identical = together.identical == Some(true);
    match args.at.json {
        true => print(&together.json())?,
        false => {
            if !together.files.is_empty() {
                print(&format!("together\n{together}"))?;
            }
            print(&format!("identical: {}", if identical { "yes" } else { "no" }))?;
        }
    }
    if identical { Ok(()) } else { Err(Failure::Told) }
}

/// One report a file, told as it comes.
async fn each(args: &RoundtripArgs, gateway: &str, reports: &mut Vec<Report>) -> Result<(), Failure> {
    let client = Client::connect(gateway).await?;
    remote::check(&client, &args.write).await?;
    for file in &args.files {
        let report = one(&client, file, args).await?;
        if !args.at.json {
            print(&format!("{report}\n"))?;
        }
        reports.push(report);
    }
    Ok(())
}

/// Puts a file, gets it and compares.
async fn one(client: &Client, file: &Path, args: &RoundtripArgs) -> Result<Report, Failure> {
    let source = Source::open(file).await?;
    let options = args.write.options(source.bytes);
    let (stored, took) = put::store(client, source, &options).await?;
    let mut report = Report::of_stored(&stored, took);
    let begun = Instant::now();
    let text = client.get(&stored.document.id.to_string(), ByteRange::default()).await?;
    let again = Source::open(file).await?;
    report.identical = Some(same(text, again.text, stored.document.bytes, file).await?);
    let get = begun.elapsed().as_secs_f64();
    report.seconds.get = Some(get);
    report.seconds.total += get;
    report.file = Some(file.display().to_string());
    Ok(report)
}

/// Whether the stream is the file, byte for byte, to the end of both.
async fn same(
    mut text: impl Stream<Item = Result<Bytes, Error>> + Unpin,
    mut file: impl AsyncRead + Unpin,
    bytes: u64,
    path: &Path,
) -> Result<bool, Failure> {
    let progress = progress::bar("get", Some(bytes));
    let mut expected = Vec::new();
    while let Some(piece) = text.try_next().await? {
        expected.clear();
        let due = (&mut file).take(piece.len() as u64);
        tokio::pin!(due);
        due.read_to_end(&mut expected).await.map_err(|error| Failure::at(path, &error))?;
        if expected != piece {
            return Ok(false);
        }
        progress.more(piece.len() as u64);
    }
    let rest = file.read(&mut [0]).await.map_err(|error| Failure::at(path, &error))?;
    Ok(rest == 0)
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    async fn same_as(pieces: &[&'static str], file: &[u8]) -> bool {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        same(stream::iter(pieces), file, file.len() as u64, Path::new("file")).await.unwrap()
    }

    #[tokio::test]
    async fn only_the_same_bytes_are_the_same() {
        assert!(same_as(&["ab", "", "c"], b"abc").await);
        assert!(same_as(&[], b"").await);
        for wrong in [&["ab"][..], &["abd"], &["abcd"], &["abc", "d"], &[]] {
            assert!(!same_as(wrong, b"abc").await, "{wrong:?}");
        }
    }
}
