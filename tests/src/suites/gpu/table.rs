//! Maps each measurement of the GPU suite, by name, to the function that runs it.

use anyhow::{Result, bail};

use super::{golden, kernels, mini, portability, published};
use crate::harness::fixtures::Corpus;
use crate::harness::quantity::Quantity;

/// Names of the measurements.
pub const ROWS: [&str; 7] = ["golden", "kernels", "mini", "one-window", "portability", "published", "sanitizer"];

/// Runs the measurement `row` and returns its quantities. Fails if there is no such measurement.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    match row {
        "mini" => mini::relative_to_pytorch(corpus),
        "one-window" => mini::one_window(corpus),
        "portability" => portability::portability(corpus),
        "golden" => golden::golden(corpus),
        "kernels" => kernels::agreement(corpus),
        "published" => published::speed(corpus),
        "sanitizer" => kernels::sanitizer(),
        _ => bail!("no measurement is named `{row}`"),
    }
}
