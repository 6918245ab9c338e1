//! Maps each measurement of the operations suite, by name, to the function that runs it.

use anyhow::{Result, bail};

use super::scaling::{self, Growth};
use super::{backup, queries, scripts, telemetry, upgrade};
use crate::harness::fixtures::{Corpus, text};
use crate::harness::quantity::Quantity;

/// Names of the measurements, as given to `accept` in its argument `ROW`.
pub const ROWS: [&str; 11] = [
    "chart",
    "alerts",
    "queries",
    "simulation",
    "scaling",
    "scaling-writes",
    "scaling-reads",
    "upgrade",
    "backup",
    "telemetry",
    "containers",
];

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    match row {
        "chart" => scripts::chart(),
        "alerts" => scripts::alerts(),
        "containers" => scripts::containers(),
        "queries" => queries::queries(&text("page.txt")?).await,
        "simulation" => scripts::simulation(20),
        "scaling" => scaling::drill(row, &corpus.books()?, Growth::Both).await,
        "scaling-writes" => scaling::drill(row, &corpus.books()?, Growth::Writes).await,
        "scaling-reads" => scaling::drill(row, &corpus.books()?, Growth::Reads).await,
        "upgrade" => upgrade::upgrade(&text("chapter.txt")?).await,
        "telemetry" => telemetry::cost(&text("page.txt")?).await,
        "backup" => backup::backup(&text("chapter.txt")?, if corpus.full { 100 } else { 20 }).await,
        row => bail!("no measurement is named `{row}`"),
    }
}
