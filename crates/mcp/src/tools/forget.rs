//! `forget`: deletes a document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Output;
use crate::call::{Call, handle};
use crate::error::Error;

pub(super) const ABOUT: &str = "Delete a stored document for good, with its names and labels.";

/// Document.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    /// Handle, id, or @name
    handle: String,
}

/// The deleted document.
#[derive(Serialize, JsonSchema)]
pub(super) struct Forgotten {
    handle: String,
    id: String,
    size: u64,
}

pub(super) async fn forget(call: &Call<'_>, args: Args) -> Result<Output, Error> {
    let document = call.document(&args.handle).await?;
    let id = call.client.delete(&document.id.to_string()).await?.to_string();
    Output::new(&Forgotten { handle: handle(&document), id, size: document.bytes })
}
