//! Maps each measurement of the chaos suite, by name, to the function that runs it.

use std::time::Duration;

use anyhow::{Result, bail};

use super::schedules::{Retries, schedules};
use super::{clients, discovery, gateways, nodes};
use crate::harness::fixtures::{Corpus, middle};
use crate::harness::quantity::Quantity;
use crate::suites::store::kills;

/// Names of the measurements, as given to `accept` in its argument `ROW`.
pub const ROWS: [&str; 16] = [
    "kills",
    "stopped",
    "hung",
    "half-open",
    "rolling-nodes",
    "rolling-gateways",
    "gateway-kills",
    "overload",
    "cancelled",
    "bursts",
    "hot",
    "slow",
    "byzantine",
    "fair",
    "discovery",
    "schedules",
];
/// Seed of all random choices.
const SEED: u64 = 7;

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str, corpus: Corpus) -> Result<Vec<Quantity>> {
    let sized = |few, many| if corpus.full { many } else { few };
    let prose = || corpus.whole_book("little-colonels-hero");
    let seconds = |few, many| Duration::from_secs(sized(few, many));
    match row {
        "kills" => nodes::kills(&prose()?, sized(10, 100) as usize, SEED).await,
        "stopped" => nodes::stopped(&prose()?, seconds(8, 30)).await,
        "hung" => nodes::hung(&prose()?, seconds(8, 30)).await,
        "half-open" => nodes::half_open(&prose()?, seconds(8, 30)).await,
        "rolling-nodes" => nodes::rolling(&prose()?, sized(1, 5) as usize).await,
        "bursts" => nodes::bursts(200, 2048).await,
        "hot" => nodes::hot(middle(&prose()?, 20_000), 200).await,
        "slow" => nodes::slow(&prose()?, seconds(40, 60)).await,
        "rolling-gateways" => gateways::rolling(&prose()?, sized(5, 20) as usize).await,
        "gateway-kills" => kills::during_puts_only(sized(20, 200) as usize, SEED).await,
        "overload" => {
            let prose = prose()?;
            let quantities = clients::overload(&prose, seconds(15, 60)).await?;
            Ok([quantities, clients::excess_load(&prose).await?].concat())
        }
        "cancelled" => clients::cancelled(&prose()?, 1000, 10).await,
        "fair" => clients::fair(&prose()?, seconds(15, 60)).await,
        "discovery" => {
            let prose = prose()?;
            let text = middle(&prose, 2_000);
            Ok([discovery::announced(text).await?, discovery::resolved(text).await?].concat())
        }
        "byzantine" => nodes::byzantine(&prose()?, seconds(10, 60)).await,
        "schedules" => {
            let (prose, duration) = (prose()?, Duration::from_secs(60));
            let mut quantities = schedules(&prose, sized(2, 20) as usize, duration, SEED, Retries::On).await?;
            quantities.extend(schedules(&prose, sized(1, 20) as usize, duration, SEED, Retries::Off).await?);
            Ok(quantities)
        }
        row => bail!("no measurement is named `{row}`"),
    }
}
