//! Measurements of TLS between clients, gateways and nodes.

mod cost;
mod identity;
mod refusals;
mod reload;
mod scan;
mod services;

use anyhow::{Result, bail};

use crate::harness::fixtures::{Corpus, text};
use crate::harness::quantity::Quantity;

/// Names of the measurements.
pub const ROWS: &[&str] = &[
    "tls-refusals",
    "tls-identity",
    "tls-announcement",
    "tls-roundtrip",
    "tls-reload",
    "tls-scan",
    "tls-services",
    "tls-cost",
];

/// Runs the measurement called `row` and returns its quantities.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    match row {
        "tls-refusals" => refusals::refusals().await,
        "tls-identity" => identity::identity().await,
        "tls-announcement" => identity::announcement().await,
        "tls-roundtrip" => identity::roundtrip(&corpus.book("little-colonels-hero")?).await,
        "tls-reload" => reload::reload(&corpus.whole_book("little-colonels-hero")?).await,
        "tls-scan" => scan::scan().await,
        "tls-services" => services::services(&text("page.txt")?).await,
        "tls-cost" => cost::cost(&corpus.whole_book("little-colonels-hero")?, corpus.full).await,
        row => bail!("no measurement is named `{row}`"),
    }
}
