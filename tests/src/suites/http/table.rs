//! Maps each measurement of the HTTP suite, by name, to the function that runs it.

use anyhow::{Result, bail};

use super::{bad_input, conformance, examples, load, python, web};
use crate::harness::fixtures::{Corpus, text};
use crate::harness::quantity::Quantity;

/// Names of the measurements, as given to `accept` in its argument `ROW`.
pub const ROWS: [&str; 14] = [
    "schemathesis",
    "conformance",
    "fetch",
    "curl",
    "bad-input",
    "web-pages",
    "error-pairs",
    "memory",
    "cached-latents",
    "slow-reader",
    "idle-connections",
    "adapters",
    "python-kills",
    "newcomer",
];

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    let page = || text("page.txt");
    match row {
        "schemathesis" => python::schemathesis(if corpus.full { 10_000 } else { 2_000 }).await,
        "conformance" => conformance::requests(&page()?).await,
        "fetch" => web::fetch(&page()?).await,
        "curl" => examples::curl().await,
        "bad-input" => bad_input::bad_input(&page()?).await,
        "web-pages" => web::pages(&page()?).await,
        "error-pairs" => bad_input::error_pairs(&page()?).await,
        "memory" => load::memory(&corpus.books()?, if corpus.full { 20 << 20 } else { 4 << 20 }).await,
        "cached-latents" => load::cached_latents(&page()?).await,
        "slow-reader" => load::slow_reader(&text("chapter.txt")?).await,
        "idle-connections" => load::idle_connections(10_000).await,
        "adapters" => python::adapters().await,
        "python-kills" => python::kills(200).await,
        "newcomer" => python::newcomer().await,
        row => bail!("no measurement is named `{row}`"),
    }
}
