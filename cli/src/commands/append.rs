//! `c3 append`: appends text to a stored document and stores the result as a new document.

use std::path::PathBuf;

use c3_client::{Base, Labels, Stage, UploadName, WriteOptions};
use clap_complete::{ArgValueCandidates, ArgValueCompleter};

use crate::args::{RemoteArgs, WriteArgs, check_ratios, document_ref};
use crate::complete;
use crate::error::CliError;
use crate::input::TextInput;
use crate::output::{Report, StageBars};
use crate::upload;

/// Arguments of `append`.
#[derive(Debug, clap::Args)]
pub(crate) struct AppendArgs {
    /// Document: its id, a unique prefix of it, or @NAME
    #[arg(value_parser = document_ref, add = ArgValueCompleter::new(complete::documents))]
    id: String,
    /// UTF-8 text to append; `-` is standard input
    file: PathBuf,
    /// Delete the old document once the new one is stored
    #[arg(long)]
    replace: bool,
    /// Name under which the upload can be resumed [default: chosen by the gateway for long texts]
    ///
    /// If the upload is interrupted, repeat the command with the same name, text and options to resume it.
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::uploads))]
    upload: Option<UploadName>,
    #[command(flatten)]
    pub(super) write: WriteArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Stores the new document. With `--replace`, then deletes the old document.
pub(crate) async fn run(args: AppendArgs) -> Result<(), CliError> {
    let input = TextInput::open(&args.file).await?;
    // A decoder is needed even with `--no-verify`, since the gateway decodes the end of the stored text.
    let client = args.remote.connect_to_nodes(&Stage::ALL).await?;
    check_ratios(&client, &args.write).await?;
    let old = client.stat(&args.id).await?;
    let options = WriteOptions {
        upload: args.upload,
        base: Some(Base::Appended(old.id.into())),
        // If the old document is replaced, the new one takes over its labels, such as its path.
        labels: if args.replace { old.labels.clone() } else { Labels::default() },
        ..args.write.options(input.bytes)
    };
    let progress = StageBars::start(&options, input.bytes.map(|bytes| old.bytes + bytes));
    let (stored, elapsed) = upload::store(&client, input, &options, progress).await?;
    // The old document is deleted last, so that an interruption never loses its text.
    if args.replace && stored.document.id != old.id {
        client.delete(&old.id.to_string()).await?;
    }
    let report = Report::of_stored(&stored, elapsed);
    args.remote.format.print(&report, &report)
}
