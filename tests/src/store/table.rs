//! The store's table.

use anyhow::{Result, bail};

use super::{deletes, flips, gateways, kills, many, syscalls};
use crate::fixtures::Shared;
use crate::row::Row;

/// Its rows, in the order.
pub const ROWS: [&str; 6] = ["kills", "syscalls", "flips", "many", "deletes", "gateways"];
/// Where all random choices begin.
const SEED: u64 = 6;

/// Measures a row of the table.
pub async fn measure(row: &str, shared: Shared) -> Result<Vec<Row>> {
    let count = |all: usize| if shared.full { all } else { all / 10 };
    match row {
        "kills" => kills::kills(count(200), SEED).await,
        "syscalls" => syscalls::syscalls().await,
        "flips" => flips::flips(count(2000), SEED).await,
        "many" => many::many(count(10_000)).await,
        "deletes" => deletes::deletes(count(1000), SEED).await,
        "gateways" => gateways::gateways(count(10_000), SEED).await,
        row => bail!("nothing measures `{row}`"),
    }
}
