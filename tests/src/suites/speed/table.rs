//! The table of speed on a CPU.

use anyhow::{Result, bail};

use super::{exact, nodes, rates, whole};
use crate::fixtures::{Shared, middle};
use crate::row::Row;

/// Its rows, in the order.
pub const ROWS: [&str; 9] =
    ["rates", "put-get", "mixed", "fidelity", "identical", "memory", "start", "open-loop", "both"];
/// The three texts.
const TEXTS: [&str; 3] = ["little-colonels-hero", "dickens-and-music", "critical-and-historical-essays"];

/// Measures a row of the table.
pub async fn measure(row: &str, shared: Shared) -> Result<Vec<Row>> {
    let hero = || shared.whole_book(TEXTS[0]);
    let windows = |few, many| if shared.full { many } else { few };
    match row {
        "rates" => rates::beside_llama(&hero()?),
        "put-get" => whole::put_get(middle(&hero()?, windows(20_000, 120_000))).await,
        "mixed" => rates::mixed(&hero()?),
        "fidelity" => {
            let texts = TEXTS.map(|name| Ok((name, shared.whole_book(name)?)));
            exact::fidelity(&texts.into_iter().collect::<Result<Vec<_>>>()?, windows(10, 100))
        }
        "identical" => exact::identical(&hero()?, windows(4, 24)),
        "memory" => nodes::memory(&hero()?).await,
        "start" => nodes::start().await,
        "open-loop" => whole::open_loop(&hero()?, 60, windows(1, 7)).await,
        "both" => whole::both(&hero()?, 30).await,
        row => bail!("nothing measures `{row}`"),
    }
}
