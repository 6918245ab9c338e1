//! Maps each measurement of the speed suite, by name, to the function that runs it.

use anyhow::{Result, bail};

use super::{end_to_end, exact, nodes, rates};
use crate::harness::fixtures::{Corpus, middle};
use crate::harness::quantity::Quantity;

/// Names of the measurements, as given to `accept` in its argument `ROW`.
pub const ROWS: [&str; 9] =
    ["rates", "put-get", "mixed", "fidelity", "identical", "memory", "start", "open-loop", "both"];
/// Books in the corpus.
const TEXTS: [&str; 3] = ["little-colonels-hero", "dickens-and-music", "critical-and-historical-essays"];

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    let hero = || corpus.whole_book(TEXTS[0]);
    let windows = |few, many| if corpus.full { many } else { few };
    match row {
        "rates" => rates::relative_to_llama(&hero()?),
        "put-get" => end_to_end::put_get(middle(&hero()?, windows(20_000, 120_000))).await,
        "mixed" => rates::mixed(&hero()?),
        "fidelity" => {
            let texts = TEXTS.map(|name| Ok((name, corpus.whole_book(name)?)));
            exact::fidelity(&texts.into_iter().collect::<Result<Vec<_>>>()?, windows(10, 100))
        }
        "identical" => exact::identical(&hero()?, windows(4, 24)),
        "memory" => nodes::memory(&hero()?).await,
        "start" => nodes::start().await,
        "open-loop" => end_to_end::open_loop(&hero()?, 60, windows(1, 7)).await,
        "both" => end_to_end::both(&hero()?, 30).await,
        row => bail!("no measurement is named `{row}`"),
    }
}
