//! Measurements of hostile input: floods, bombs and fuzz targets.

mod bombs;
mod floods;
mod fuzz;

use anyhow::{Result, bail};

use crate::harness::fixtures::Corpus;
use crate::harness::quantity::Quantity;

/// Names of the measurements.
pub const ROWS: &[&str] = &["floods", "bombs", "fuzz"];

/// Runs the measurement called `row` and returns its quantities.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    match row {
        "floods" => floods::floods(corpus).await,
        "bombs" => bombs::bombs().await,
        "fuzz" => fuzz::fuzz(corpus).await,
        _ => bail!("no measurement is named `{row}`"),
    }
}
