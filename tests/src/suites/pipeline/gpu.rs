//! Golden vectors and a roundtrip on an NVIDIA GPU.

use std::path::Path;

use anyhow::Result;

use super::{golden, roundtrip};
use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures::Corpus;
use crate::harness::row::Row;

/// Device file of the first GPU.
const CARD: &str = "/dev/nvidia0";
const DEVICE: &str = "cuda:0";

/// Compares both layouts with golden vectors in f32 and roundtrips a book, on a GPU; the results must meet the same
/// bounds as on a CPU. Returns skipped quantities if there is no GPU.
pub async fn gpu(corpus: Corpus) -> Result<Vec<Row>> {
    if !Path::new(CARD).exists() {
        let rows = ["gpu-golden-published", "gpu-golden-default", "gpu-identical"];
        return Ok(rows.map(|row| Row::skipped(row, "NVIDIA GPU", "as on the CPU")).into());
    }
    let rows = golden::vectors(corpus, DEVICE)?;
    let mut rows: Vec<Row> = rows.into_iter().map(|row| row.renamed(|name| format!("gpu-{name}"))).collect();
    let node_args = ["--device", DEVICE].map(str::to_owned).into();
    let spec = ClusterSpec { node_args, ..ClusterSpec::default() };
    rows.extend(roundtrip::identical("gpu-identical", spec, &corpus.book("dickens-and-music")?, 20).await?);
    Ok(rows)
}
