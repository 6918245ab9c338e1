//! Maps each measurement of the operations suite, by name, to the function that runs it.

use anyhow::{Result, bail};

use super::{backup, queries, scripts};
use crate::harness::fixtures::{Corpus, text};
use crate::harness::quantity::Quantity;

/// Names of the measurements, as given to `accept` in its argument `ROW`.
pub const ROWS: [&str; 5] = ["chart", "alerts", "queries", "simulation", "backup"];

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    match row {
        "chart" => scripts::chart(),
        "alerts" => scripts::alerts(),
        "queries" => queries::queries(&text("page.txt")?).await,
        "simulation" => scripts::simulation(20),
        "backup" => backup::backup(&text("chapter.txt")?, if corpus.full { 100 } else { 20 }).await,
        row => bail!("no measurement is named `{row}`"),
    }
}
