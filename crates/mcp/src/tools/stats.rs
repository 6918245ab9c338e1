//! `stats`: totals over what is stored, and the state of the service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Output;
use crate::call::Call;
use crate::error::Error;

pub(super) const ABOUT: &str = "Totals of what is stored, and whether the service can store and recall now.";

/// No arguments.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {}

/// Totals.
#[derive(Serialize, JsonSchema)]
pub(super) struct Stats {
    documents: u64,
    names: u64,
    /// Bytes of text
    bytes: u64,
    tokens: u64,
    latents: u64,
    stored_bytes: u64,
    can_store: bool,
    can_recall: bool,
    version: String,
}

pub(super) async fn stats(call: &Call<'_>, _: Args) -> Result<Output, Error> {
    let (totals, unready) = tokio::try_join!(call.client.totals(), call.client.unready_stages())?;
    Output::new(&Stats {
        documents: totals.documents,
        names: totals.names,
        bytes: totals.bytes,
        tokens: totals.tokens,
        latents: totals.latents,
        stored_bytes: totals.stored_bytes,
        can_store: unready.stages.is_empty(),
        can_recall: !unready.stages.contains(&c3_client::Stage::Decoder),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}
