//! `c3 gc`: collects garbage in the gateway's store.

use c3_client::SweepSummary;

use crate::args::{RemoteArgs, seconds};
use crate::error::CliError;
use crate::kept;
use crate::output::format::count;
use crate::output::warn;

/// Arguments of `gc`.
#[derive(Debug, clap::Args)]
pub(crate) struct GcArgs {
    /// Keep unreferenced objects younger than this [default: the gateway's --gc-grace]
    ///
    /// An upload that takes longer than this may lose objects that it has already stored, and then fails.
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    grace: Option<u64>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Deletes unreferenced objects.
pub(crate) async fn run(args: GcArgs) -> Result<(), CliError> {
    kept::set("objects that were deleted stay deleted; run `c3 gc` again to delete the rest");
    let swept = args.remote.connect().await?.sweep(args.grace).await?;
    let SweepSummary { pending_deletes, removed, removed_bytes, expired, packed, unreadable } = swept;
    if unreadable > 0 {
        let manifests = count(unreadable, "manifest");
        warn(format_args!("{manifests} unreadable, so objects that may still be needed were kept; run `c3 fsck`"));
    }
    let text = format!(
        "deleted {} ({}); {pending_deletes} more pending deletion; {} expired; {} repacked",
        count(removed, "object"),
        count(removed_bytes, "byte"),
        count(expired, "document"),
        count(packed, "document")
    );
    args.remote.format.print(text, &swept)
}
