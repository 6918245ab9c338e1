//! Rows of the suite. Each module of the suite lists and runs its own rows.

use anyhow::{Result, bail};

use super::{data, files, flags, folder, listing, metrics, server, terminal, usage, waiting};
use crate::harness::row::Row;

/// Returns the names of the rows.
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

/// Runs the measurements of a row and returns the measured quantities. Fails if there is no such row.
pub async fn measure(row: &str) -> Result<Vec<Row>> {
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
        row => bail!("no measurement for row `{row}`"),
    }
}
