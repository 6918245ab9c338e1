//! Maps each measurement of the GPU suite, by name, to the function that runs it.

use std::path::Path;

use anyhow::{Result, bail};
use c3_cascade::DeviceChoice::Cuda;

use super::{CARD, faults, golden, kernels, memory, mini, portability, published, servers, stored};
use crate::harness::fixtures::{Corpus, parts, repeated};
use crate::harness::quantity::Quantity;

/// Names of the measurements.
pub const ROWS: [&str; 12] = [
    "golden",
    "kernels",
    "kernels-small",
    "mini",
    "one-window",
    "portability",
    "published",
    "servers",
    "two-cards",
    "stored",
    "faults",
    "sanitizer",
];

/// Device file of the second GPU.
const SECOND_CARD: &str = "/dev/nvidia1";
/// Bytes of the text of `servers`, and of each of the texts of `two-cards`.
const SERVERS_BYTES: usize = 10_000_000;
const TWO_CARDS_BYTES: usize = 4_000_000;
/// Number of texts that `two-cards` puts and gets concurrently.
const TWO_CARDS_TEXTS: usize = 8;
/// Windows of `stored` for each ratio and direction, with `--full` and without. A window is a part of a text that is
/// decoded as a unit.
const STORED_WINDOWS: [usize; 2] = [1000, 100];
/// Bytes of each text of `faults`: a second of work for a GPU together with those of the other callers.
const FAULTS_BYTES: usize = 400_000;

/// Runs the measurement `row` and returns its quantities. Fails if there is no such measurement.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    match row {
        "mini" => mini::relative_to_pytorch(corpus),
        "one-window" => mini::one_window(corpus),
        "portability" => portability::portability(corpus),
        "golden" => golden::golden(corpus),
        "kernels" => kernels::agreement(corpus, kernels::WHOLE),
        "kernels-small" => kernels::agreement(corpus, kernels::SMALL),
        "published" => published::speed(corpus),
        "sanitizer" => kernels::sanitizer(),
        "servers" | "stored" | "faults" if !Path::new(CARD).exists() => {
            Ok(vec![Quantity::skipped(row, "NVIDIA GPU", "see docs/benchmarks/speed-gpu.md")])
        }
        "two-cards" if !Path::new(SECOND_CARD).exists() => {
            Ok(vec![Quantity::skipped(row, "second NVIDIA GPU", "see docs/benchmarks/speed-gpu.md")])
        }
        "servers" => servers::one_device(Cuda(0), &repeated(&corpus.books()?, SERVERS_BYTES)).await,
        "two-cards" => {
            let all = repeated(&corpus.books()?, TWO_CARDS_TEXTS * TWO_CARDS_BYTES);
            servers::two_devices([Cuda(0), Cuda(1)], &parts(&all, TWO_CARDS_TEXTS)).await
        }
        "stored" => {
            let windows = STORED_WINDOWS[usize::from(!corpus.full)];
            stored::across_devices(Cuda(0), &corpus.books()?, windows).await
        }
        "faults" => {
            let books = corpus.books()?;
            let mut quantities = faults::callers_gone(Cuda(0), &books, FAULTS_BYTES).await?;
            quantities.extend(faults::kernel_error(Cuda(0), &books, FAULTS_BYTES).await?);
            quantities.extend(memory::out_of_memory(0, &books, FAULTS_BYTES).await?);
            Ok(quantities)
        }
        _ => bail!("no measurement is named `{row}`"),
    }
}
