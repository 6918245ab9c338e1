//! `c3 uploads`: lists interrupted uploads.

use indicatif::{HumanBytes, HumanCount};
use serde_json::json;

use crate::args::RemoteArgs;
use crate::error::CliError;
use crate::output::format::time_until;
use crate::output::{Align, Cell, Column, Table, style};

const COLUMNS: &[Column] =
    &[("upload", Align::Left), ("done", Align::Right), ("tokens", Align::Right), ("expiry", Align::Left)];

/// Lists the uploads that can be resumed.
pub(crate) async fn run(args: RemoteArgs) -> Result<(), CliError> {
    let uploads = args.connect().await?.uploads().await?;
    if args.format.json {
        return args.format.print("", &json!({ "uploads": uploads }));
    }
    let mut table = Table::new(COLUMNS);
    for upload in uploads {
        table.row([
            upload.name.into(),
            Cell::new(HumanBytes(upload.bytes_done)).plain(upload.bytes_done),
            Cell::new(HumanCount(upload.tokens_done)).plain(upload.tokens_done),
            Cell::new(time_until(upload.expires_unix_ms)).style(style::DIM),
        ])?;
    }
    table.finish()
}
