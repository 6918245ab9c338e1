//! `c3 append`: a stored document with more text after it becomes a new document.

use std::path::PathBuf;
use std::time::Instant;

use c3_client::{Base, UploadName, WriteOptions};

use crate::args::{RemoteArgs, id};
use crate::failure::Failure;
use crate::output::print;
use crate::remote::connect_to_write;
use crate::report::Report;
use crate::source::Source;
use crate::write::WriteArgs;
use crate::{progress, upload};

/// Arguments of `append`.
#[derive(Debug, clap::Args)]
pub(crate) struct AppendArgs {
    /// The document's id, enough first digits of it, or @NAME
    #[arg(value_parser = id)]
    pub(crate) id: String,
    /// What comes after its text, UTF-8; `-` is standard input
    pub(crate) file: PathBuf,
    /// Forget the document once the new one is stored
    #[arg(long)]
    pub(crate) replace: bool,
    /// Name of this put: the same text put again under it goes on where it broke off
    #[arg(long, value_name = "NAME")]
    pub(crate) upload: Option<UploadName>,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// Appends and reports.
pub(crate) async fn run(args: AppendArgs) -> Result<(), Failure> {
    let source = Source::open(&args.file).await?;
    let client = connect_to_write(&args.remote.gateway, &args.write).await?;
    let old = client.stat(&args.id).await?;
    let options = WriteOptions {
        upload: args.upload.clone(),
        base: Some(Base::Appended(old.id.into())),
        ..args.write.options(source.bytes)
    };
    let begun = Instant::now();
    let progress = progress::bar("append", source.bytes.map(|bytes| old.bytes + bytes));
    let stored = upload::store(&client, source, &options, &progress).await?;
    drop(progress);
    // Both are there for a moment, and neither is lost whenever this ends.
    if args.replace && stored.document.id != old.id {
        client.delete(&old.id.to_string()).await?;
    }
    let report = Report::of_stored(&stored, begun.elapsed());
    print(&if args.remote.json { report.json() } else { report.to_string() })
}
