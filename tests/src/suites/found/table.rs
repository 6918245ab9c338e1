//! Maps each measurement of the found suite, by name, to the module that runs it.

use anyhow::{Result, bail};

use super::{data, files, flags, folder, listing, metrics, server, terminal, usage, waiting};
use crate::harness::quantity::Quantity;

/// Returns the names of all measurements, as given to `accept` in its argument `ROW`.
pub fn rows() -> Vec<&'static str> {
    let modules = [
        data::ROWS,
        folder::ROWS,
        files::ROWS,
        server::ROWS,
        waiting::ROWS,
        listing::ROWS,
        terminal::ROWS,
        flags::ROWS,
        usage::ROWS,
        metrics::ROWS,
    ];
    modules.concat()
}

/// Runs the measurement called `row` and returns its quantities. Fails if [`rows`] does not return `row`.
pub async fn measure(row: &str) -> Result<Vec<Quantity>> {
    match row {
        row if data::ROWS.contains(&row) => data::measure(row).await,
        row if folder::ROWS.contains(&row) => folder::measure(row).await,
        row if files::ROWS.contains(&row) => files::measure(row).await,
        row if server::ROWS.contains(&row) => server::measure(row).await,
        row if waiting::ROWS.contains(&row) => waiting::measure(row).await,
        row if listing::ROWS.contains(&row) => listing::measure(row).await,
        row if terminal::ROWS.contains(&row) => terminal::measure(row).await,
        row if flags::ROWS.contains(&row) => flags::measure(row).await,
        row if usage::ROWS.contains(&row) => usage::measure(row).await,
        row if metrics::ROWS.contains(&row) => metrics::measure(row).await,
        row => bail!("no measurement is named `{row}`"),
    }
}
