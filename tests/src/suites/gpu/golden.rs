//! Golden vectors on a GPU, in f32 and in the data types that nodes use there.

use anyhow::Result;
use c3_cascade::Dtype;

use super::options;
use crate::harness::fixtures::{self, Corpus};
use crate::harness::golden::{Arithmetic, default_layout, published_prompts};
use crate::harness::quantity::Quantity;
use crate::suites::pipeline;

/// Compares both checkpoint layouts with golden vectors: in f32 within small tolerances, in the data types of nodes
/// within larger ones, and by argmax where the margins of PyTorch allow.
pub fn golden(corpus: Corpus) -> Result<Vec<Quantity>> {
    let Some(options) = options() else {
        return Ok(vec![Quantity::skipped("golden", "NVIDIA GPU", "agrees with PyTorch")]);
    };
    let mut quantities = pipeline::golden::vectors(corpus, "cuda:0")?;
    let (model, vectors) = (fixtures::default_model(), corpus.path("model")?);
    quantities.extend(default_layout(&model, &vectors, options, Arithmetic::Served, usize::MAX)?);
    let published = corpus.golden_model()?;
    let bf16 = c3_cascade::Options { dtype: Dtype::Bf16, ..options };
    quantities.extend(published_prompts(published.path(), &corpus.path("golden")?, bf16)?);
    Ok(quantities)
}
