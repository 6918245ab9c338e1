//! The table of the store.

use anyhow::{Result, bail};

use super::{
    auto, cloud, codecs, deletes, flips, gateways, kills, kinds, many, names, recode, shared, syscalls,
};
use crate::fixtures::{Shared, middle};
use crate::row::Row;

/// Its rows, in the order.
pub const ROWS: [&str; 12] = [
    "kills", "syscalls", "flips", "s3", "redis", "many", "deletes", "gateways", "names", "recode", "codecs",
    "auto",
];
/// Where all random choices begin.
const SEED: u64 = 6;

/// Measures a row of the table.
pub async fn measure(row: &str, shared: Shared) -> Result<Vec<Row>> {
    let sized = |few, many| if shared.full { many } else { few };
    let count = |all: usize| sized(all / 10, all);
    let prose = || shared.whole_book("little-colonels-hero");
    match row {
        "kills" => kills::kills(count(200), SEED).await,
        "syscalls" => syscalls::syscalls().await,
        "flips" => flips::flips(count(2000), SEED).await,
        "s3" => cloud::faulty_s3(&prose()?, sized(30, 200)).await,
        "redis" => shared::killed_redis(&prose()?, sized(8, 40)).await,
        "many" => many::many(count(10_000)).await,
        "deletes" => deletes::deletes(count(1000), SEED).await,
        "gateways" => gateways::gateways(count(10_000), SEED).await,
        "names" => names::contended(count(1000)).await,
        "recode" => {
            let prose = prose()?;
            let mut rows = recode::codecs(middle(&prose, 6_000)).await?;
            rows.extend(recode::deleted(middle(&prose, 20_000)).await?);
            rows.extend(recode::kills(middle(&prose, sized(20_000, 40_000)), sized(6, 200)).await?);
            Ok(rows)
        }
        "codecs" => codecs::table(&kinds::all(&prose()?, sized(9_000, 60_000))?).await,
        "auto" => auto::auto(&kinds::all(&prose()?, sized(40_000, 200_000))?).await,
        row => bail!("nothing measures `{row}`"),
    }
}

/// A part of a text that begins at its `number`-th stretch of `bytes` bytes.
pub(super) fn stretch(text: &str, number: usize, bytes: usize) -> &str {
    let from = text.floor_char_boundary(number * bytes % (text.len() - bytes));
    &text[from..text.floor_char_boundary(from + bytes)]
}
