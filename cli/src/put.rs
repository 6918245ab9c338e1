//! `c3 put`: a text becomes a stored document.

use std::time::{Duration, Instant};

use c3_client::{Client, Stored, WriteOptions};

use crate::args::PutArgs;
use crate::failure::Failure;
use crate::output::print;
use crate::progress;
use crate::remote::connect_to_write;
use crate::report::Report;
use crate::source::Source;

/// Stores the text and reports.
pub(crate) async fn run(args: PutArgs) -> Result<(), Failure> {
    let (name, labels) = (args.naming.name()?, args.naming.labels()?);
    let source = Source::open(&args.file).await?;
    let client = connect_to_write(&args.remote.gateway, &args.write).await?;
    let options = WriteOptions { ttl_seconds: args.ttl, name, labels, ..args.write.options(source.bytes) };
    let (stored, took) = store(&client, source, &options).await?;
    let report = Report::of_stored(&stored, took);
    print(&if args.remote.json { report.json() } else { report.to_string() })
}

/// Stores a text under a progress bar, and says how long that took.
pub(crate) async fn store(
    client: &Client,
    source: Source,
    options: &WriteOptions,
) -> Result<(Stored, Duration), Failure> {
    let begun = Instant::now();
    let progress = progress::bar("put", source.bytes);
    let put = client.put(source.text, options).await?;
    let stored = put.finish_with(|bytes| progress.done(bytes)).await?;
    Ok((stored, begun.elapsed()))
}
