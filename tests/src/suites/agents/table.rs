//! Maps each measurement of the suite of agents, by name, to the function that runs it.

use anyhow::{Result, bail};

use super::{access, archive, bad_input, clients, start};
use crate::harness::fixtures::Corpus;
use crate::harness::quantity::Quantity;

/// Names of the measurements, as given to `accept` in its argument `ROW`.
pub const ROWS: [&str; 12] = [
    "start",
    "tools",
    "access",
    "bad-input",
    "python-sdk",
    "typescript-sdk",
    "inspector",
    "conformance",
    "setup",
    "archive",
    "archive-kills",
    "examples",
];

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    match row {
        "start" => start::start().await,
        "tools" => start::tools().await,
        "access" => access::access().await,
        "bad-input" => bad_input::bad_input().await,
        "python-sdk" => clients::python_sdk().await,
        "typescript-sdk" => clients::typescript_sdk().await,
        "inspector" => clients::inspector().await,
        "conformance" => clients::conformance().await,
        "setup" => clients::setup().await,
        "archive" => archive::archive(if corpus.full { 1 } else { 10 }).await,
        "archive-kills" => archive::kills().await,
        "examples" => archive::examples().await,
        row => bail!("no measurement is named `{row}`"),
    }
}
