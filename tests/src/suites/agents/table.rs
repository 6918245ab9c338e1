//! Maps each measurement of the suite of agents, by name, to the function that runs it.

use anyhow::{Result, bail};

use super::{access, bad_input, start};
use crate::harness::quantity::Quantity;

/// Names of the measurements, as given to `accept` in its argument `ROW`.
pub const ROWS: [&str; 4] = ["start", "tools", "access", "bad-input"];

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str) -> Result<Vec<Quantity>> {
    match row {
        "start" => start::start().await,
        "tools" => start::tools().await,
        "access" => access::access().await,
        "bad-input" => bad_input::bad_input().await,
        row => bail!("no measurement is named `{row}`"),
    }
}
