//! `c3 put`: a text becomes a stored document.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use c3_client::{Client, Stored, WriteOptions};

use crate::args::RemoteArgs;
use crate::failure::Failure;
use crate::inputs::is_one_text;
use crate::names::NamingArgs;
use crate::output::print;
use crate::put_many::PutManyArgs;
use crate::remote::connect_to_write;
use crate::report::Report;
use crate::source::Source;
use crate::upload::UploadArgs;
use crate::write::WriteArgs;
use crate::{progress, put_many, upload};

/// Arguments of `put`.
#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    /// The texts, UTF-8; `-` is standard input. A folder stands for the files in it that are not hidden, a quoted pattern
    /// such as 'notes/**/*.md' for what it matches
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) many: PutManyArgs,
    /// Seconds after which the document is not found any more [default: it stays]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) ttl: Option<u64>,
    #[command(flatten)]
    pub(crate) upload: UploadArgs,
    #[command(flatten)]
    pub(crate) naming: NamingArgs,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Stores the text and reports; many go the way of [`put_many`].
pub(crate) async fn run(args: PutArgs) -> Result<(), Failure> {
    let [file] = &args.files[..] else { return put_many::run(args).await };
    if args.many.field().is_some() || !is_one_text(file) {
        return put_many::run(args).await;
    }
    let (name, labels) = (args.naming.name()?, args.naming.labels()?);
    let source = Source::open(file).await?;
    let client = connect_to_write(&args.remote.gateway, &args.write).await?;
    let (upload, base) = (args.upload.upload.clone(), args.upload.base(&client).await?);
    let options = args.write.options(source.bytes);
    let options = WriteOptions { upload, base, ttl_seconds: args.ttl, name, labels, ..options };
    let (stored, took) = store(&client, source, &options).await?;
    let report = Report::of_stored(&stored, took);
    print(&if args.remote.json { report.json() } else { report.to_string() })
}

/// Stores a text under a progress bar, and says how long that took. Where it breaks off, the failure says how to go on.
pub(crate) async fn store(
    client: &Client,
    source: Source,
    options: &WriteOptions,
) -> Result<(Stored, Duration), Failure> {
    let begun = Instant::now();
    let progress = progress::bar("put", source.bytes);
    let stored = upload::store(client, source, options, &progress).await?;
    Ok((stored, begun.elapsed()))
}
