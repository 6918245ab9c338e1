//! Measurements of hostile.

use anyhow::{Result, bail};

use crate::harness::fixtures::Corpus;
use crate::harness::quantity::Quantity;

/// Names of the measurements.
pub const ROWS: &[&str] = &[];

/// Runs the measurement called `row` and returns its quantities.
pub async fn measure(row: &str, _corpus: Corpus) -> Result<Vec<Quantity>> {
    bail!("no measurement is named `{row}`")
}
