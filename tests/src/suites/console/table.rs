//! Maps each measurement of the console suite, by name, to the function that runs it.

use anyhow::Result;

use super::{build, command_line, pages};
use crate::harness::quantity::Quantity;

/// Names of the measurements, as given to `accept` in its argument `ROW`. All but `build` and the last two are scenarios
/// of `clients/console/test/run.mjs`.
pub const ROWS: [&str; 10] =
    ["build", "flow", "axe", "bytes", "documents", "hostile", "access", "restart", "transcripts", "completions"];

/// Runs the measurement called `row` and returns its quantities.
pub async fn measure(row: &str) -> Result<Vec<Quantity>> {
    match row {
        "build" => build::build(),
        "transcripts" => command_line::transcripts(),
        "completions" => command_line::completions(),
        scenario => pages::scenario(scenario).await,
    }
}
