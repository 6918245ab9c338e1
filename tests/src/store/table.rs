//! The table of the store.

use anyhow::{Result, bail};

use super::{auto, codecs, kinds, recode};
use crate::fixtures::{Shared, middle};
use crate::row::Row;

/// Its rows, in the order.
pub const ROWS: [&str; 3] = ["recode", "codecs", "auto"];

/// Measures a row of the table.
pub async fn measure(row: &str, shared: Shared) -> Result<Vec<Row>> {
    let sized = |few, many| if shared.full { many } else { few };
    let prose = shared.whole_book("little-colonels-hero")?;
    match row {
        "recode" => {
            let mut rows = recode::codecs(middle(&prose, 6_000)).await?;
            rows.extend(recode::deleted(middle(&prose, 20_000)).await?);
            rows.extend(recode::kills(middle(&prose, sized(20_000, 40_000)), sized(6, 200)).await?);
            Ok(rows)
        }
        "codecs" => codecs::table(&kinds::all(&prose, sized(9_000, 60_000))?).await,
        "auto" => auto::auto(&kinds::all(&prose, sized(40_000, 200_000))?).await,
        row => bail!("nothing measures `{row}`"),
    }
}
