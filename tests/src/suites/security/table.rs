//! Maps each measurement of the security suite, by name, to the module that runs it.

use anyhow::{Result, bail};

use super::{access, encryption, hostile, tls};
use crate::harness::fixtures::Corpus;
use crate::harness::quantity::Quantity;

/// Returns the names of the measurements, as given to `accept` in its argument `ROW`.
pub fn rows() -> Vec<&'static str> {
    [access::ROWS, tls::ROWS, encryption::ROWS, hostile::ROWS].concat()
}

/// Runs the measurement called `row` and returns its quantities. Fails if [`rows`] does not contain `row`.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    match row {
        row if access::ROWS.contains(&row) => access::measure(row, corpus).await,
        row if tls::ROWS.contains(&row) => tls::measure(row, corpus).await,
        row if encryption::ROWS.contains(&row) => encryption::measure(row, corpus).await,
        row if hostile::ROWS.contains(&row) => hostile::measure(row, corpus).await,
        row => bail!("no measurement is named `{row}`"),
    }
}
