//! Golden vectors and a roundtrip on an NVIDIA GPU.

use std::path::Path;

use anyhow::Result;

use super::{golden, roundtrip};
use crate::harness::cluster::ClusterSpec;
use crate::harness::fixtures::Corpus;
use crate::harness::quantity::Quantity;
use crate::suites::gpu::CARD;

const DEVICE: &str = "cuda:0";

/// Compares both layouts with golden vectors in f32 and roundtrips a book, on a GPU; the results must meet the same
/// bounds as on a CPU. Returns skipped quantities if there is no GPU.
pub async fn gpu(corpus: Corpus) -> Result<Vec<Quantity>> {
    if !Path::new(CARD).exists() {
        let names = ["gpu-golden-published", "gpu-golden-default", "gpu-identical"];
        return Ok(names.map(|name| Quantity::skipped(name, "NVIDIA GPU", "as on the CPU")).into());
    }
    let quantities = golden::vectors(corpus, DEVICE)?;
    let mut quantities: Vec<Quantity> =
        quantities.into_iter().map(|quantity| quantity.renamed(|name| format!("gpu-{name}"))).collect();
    let node_args = ["--device", DEVICE].map(str::to_owned).into();
    let spec = ClusterSpec { node_args, ..ClusterSpec::default() };
    quantities.extend(roundtrip::identical("gpu-identical", spec, &corpus.book("dickens-and-music")?, 20).await?);
    Ok(quantities)
}
