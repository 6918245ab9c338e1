//! Maps each measurement of the search suite, by name, to the function that runs it.

use anyhow::{Result, bail};

use super::{changes, kills, phrases, recall, scale};
use crate::harness::fixtures::Corpus;
use crate::harness::quantity::Quantity;

/// Names of the measurements, as given to `accept` in its argument `ROW`.
pub const ROWS: [&str; 6] = ["recall", "scale", "phrases", "changes", "changes-s3", "kills"];

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    match row {
        "recall" => recall::recall().await,
        "scale" => scale::scale(&corpus.books()?).await,
        "phrases" => phrases::phrases().await,
        "changes" => changes::in_folder().await,
        "changes-s3" => changes::in_s3().await,
        "kills" => kills::kills(50).await,
        row => bail!("no measurement is named `{row}`"),
    }
}
