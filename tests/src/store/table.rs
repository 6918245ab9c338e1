//! The table of the store.

use anyhow::{Result, bail};

use super::cloud;
use crate::fixtures::Shared;
use crate::row::Row;

/// Its rows, in the order.
pub const ROWS: [&str; 2] = ["s3", "redis"];

/// Measures a row of the table.
pub async fn measure(row: &str, shared: Shared) -> Result<Vec<Row>> {
    let documents = |few, many| if shared.full { many } else { few };
    match row {
        "s3" => cloud::faulty_s3(&shared.whole_book("little-colonels-hero")?, documents(30, 200)).await,
        "redis" => {
            super::shared::killed_redis(&shared.whole_book("little-colonels-hero")?, documents(8, 40)).await
        }
        row => bail!("nothing measures `{row}`"),
    }
}

/// A part of a text that begins at its `number`-th stretch of `bytes` bytes.
pub(super) fn stretch(text: &str, number: usize, bytes: usize) -> &str {
    let from = text.floor_char_boundary(number * bytes % (text.len() - bytes));
    &text[from..text.floor_char_boundary(from + bytes)]
}
