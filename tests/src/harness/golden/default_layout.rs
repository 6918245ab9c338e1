//! Comparison of the default model with vectors that PyTorch computed from the same weights.

use std::path::Path;

use anyhow::Result;
use c3_cascade::{Compressor, Decoder, Latents, Options, Source, Task, TokenVerdict, TokenWindow, VerifyWindow};
use c3_types::LatentCodec;
use serde::Deserialize;

use super::{Arithmetic, Vectors, decode, relative_error};
use crate::harness::quantity::Quantity;

#[derive(Deserialize)]
struct Index {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    text: String,
    ratio: usize,
    tokens: usize,
}

/// Maximum deviation from PyTorch's f32 results.
struct Tolerance {
    /// Maximum relative error of latents and projections, in the Euclidean norm.
    latents: f64,
    /// If PyTorch's best logit leads the second best by more than this, our argmax must be the same token.
    margin: f32,
}

/// Compares the results of the model in the folder `model` with the vectors in the folder `vectors`. Skips cases of
/// more than `tokens_max` text tokens.
pub fn default_layout(
    model: &Path,
    vectors: &Path,
    options: Options,
    computed: Arithmetic,
    tokens_max: usize,
) -> Result<Vec<Quantity>> {
    let options = computed.options(options);
    let tolerance = match computed {
        Arithmetic::F32 => Tolerance { latents: 1e-4, margin: 0.01 },
        Arithmetic::Served => Tolerance { latents: 0.02, margin: 2.0 },
    };
    let compressor = Compressor::load(Source::Folder(model), &options)?;
    let decoder = Decoder::load(Source::Folder(model), &options)?;
    let index: Index = serde_json::from_slice(&std::fs::read(vectors.join("vectors.json"))?)?;
    let vectors = Vectors::read(&vectors.join("vectors.safetensors"))?;
    let mut quantities = Vec::new();
    for case in index.cases.iter().filter(|case| case.tokens <= tokens_max) {
        let name = |what: &str| format!("golden-default-{}-{}-{what}", computed.name(), case.name);
        let vector = |what: &str| vectors.floats(&format!("{}.{what}", case.name));
        let ids = |what: &str| vectors.ids(&format!("{}.{what}", case.name));
        let tokens = ids("token_ids")?;
        let first: Vec<u32> = compressor.windows(&case.text, case.ratio)?.into_iter().flat_map(|w| w.tokens).collect();
        quantities.push(Quantity::holds(
            name("tokens"),
            first[..case.tokens] == *tokens,
            "token ids equal those of the golden vectors",
        ));
        let window = TokenWindow { tokens: tokens.to_vec(), ratio: case.ratio, bytes: 0..0 };
        let values = compressor.compress(&[&window])?.remove(0);
        quantities.push(Quantity::at_most(
            name("latents"),
            relative_error(&values, vector("latents")?),
            tolerance.latents,
        ));
        let width = compressor.info().latent_width;
        let given = Latents { values: vector("latents")?.to_vec(), count: values.len() / width, width };
        let projected = relative_error(&decoder.projected(&given)?, vector("projected")?);
        quantities.push(Quantity::at_most(name("projected"), projected, tolerance.latents));
        let rounded = LatentCodec::Q4_0.decode(&LatentCodec::Q4_0.encode(&given.values));
        let rounding = relative_error(&rounded, vector("latents_q4_0")?);
        quantities.push(Quantity::at_most(name("q4_0"), rounding, 1e-6));
        let given_q4_0 = Latents { values: rounded, ..given.clone() };
        let checked = |latents| VerifyWindow { latents, tokens, ratio: case.ratio };
        let verdicts = decoder.verify(&[checked(&given), checked(&given_q4_0)])?;
        for (verdicts, kind) in verdicts.iter().zip(["", "_q4_0"]) {
            let (argmax, margins) = (ids(&format!("verify_argmax{kind}"))?, vector(&format!("verify_margin{kind}"))?);
            let differ = differences(verdicts, argmax, margins, tolerance.margin);
            quantities.push(Quantity::equal(name(&format!("argmax{kind}")), differ, 0));
        }
        if computed == Arithmetic::F32 {
            let task = Task::Reconstruct { tokens: case.tokens, ratio: case.ratio, corrections: Vec::new() };
            let (greedy, _) = decode(&decoder, given, task)?;
            let differ = greedy.iter().zip(ids("greedy_tokens")?).filter(|(a, b)| a != b).count();
            quantities.push(Quantity::equal(name("greedy"), differ, 0));
        }
    }
    Ok(quantities)
}

/// Counts the tokens whose argmax differs from PyTorch's. Ignores tokens for which PyTorch's best logit leads the
/// second best by at most `margin`.
fn differences(verdicts: &[TokenVerdict], argmax: &[u32], margins: &[f32], margin: f32) -> usize {
    let tokens = verdicts.iter().zip(argmax).zip(margins);
    tokens.filter(|((verdict, argmax), own)| **own > margin && verdict.predicted != **argmax).count()
}
