//! The same network on an NVIDIA card.

use std::path::Path;

use anyhow::Result;

use super::{golden, roundtrip};
use crate::cluster::Plan;
use crate::fixtures::Shared;
use crate::row::Row;

/// What the driver shows where a card is.
const CARD: &str = "/dev/nvidia0";
const DEVICE: &str = "cuda:0";

/// Golden vectors of both layouts in f32, and a book through the three programs.
pub async fn gpu(shared: Shared) -> Result<Vec<Row>> {
    if !Path::new(CARD).exists() {
        let rows = ["gpu-golden-published", "gpu-golden-default", "gpu-identical"];
        return Ok(rows.map(|row| Row::not_here(row, "NVIDIA card", "as on the processor")).into());
    }
    let rows = golden::vectors(shared, DEVICE)?;
    let mut rows: Vec<Row> = rows.into_iter().map(|row| row.named(|name| format!("gpu-{name}"))).collect();
    let node_args = ["--device", DEVICE].map(str::to_owned).into();
    let plan = Plan { node_args, ..Plan::default() };
    rows.extend(roundtrip::identical("gpu-identical", plan, &shared.book("dickens-and-music")?, 20).await?);
    Ok(rows)
}
