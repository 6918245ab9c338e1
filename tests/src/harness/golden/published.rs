//! Comparison of a tiny checkpoint in the published layout with vectors from the published code.

use std::path::Path;

use anyhow::Result;
use c3_cascade::{Compressor, Decoder, Latents, Options, Source, Task};
use serde::Deserialize;

use super::{Arithmetic, Vectors, decode, max_difference, relative_error};
use crate::harness::quantity::Quantity;

/// Maximum absolute difference of latents, projections and logits in f32.
const TOLERANCE: f64 = 1e-4;
/// Maximum relative error of latents and logits in bf16, in the Euclidean norm.
const SERVED_TOLERANCE: f64 = 0.05;

#[derive(Deserialize)]
struct Index {
    cases: Vec<Case>,
    scripted: Vec<Scripted>,
    odd_inputs: Vec<SpecialInput>,
}

#[derive(Deserialize)]
struct Case {
    case: usize,
    name: String,
    context: String,
    prompt: String,
    prompt_ids: Vec<u32>,
    greedy_tokens: Vec<u32>,
    returned_text: String,
}

/// A generation whose logits are prescribed. The network does not run.
#[derive(Deserialize)]
struct Scripted {
    name: String,
    prompt: String,
    max_new_tokens: usize,
    script: Vec<Vec<u32>>,
    prompt_ids: Vec<u32>,
    output_tokens: Vec<u32>,
    raw_decode: String,
    returned_text: String,
}

/// An input with special tokens, or an empty input.
#[derive(Deserialize)]
struct SpecialInput {
    name: String,
    context: String,
    prompt: String,
    raises: Option<String>,
    #[serde(default)]
    prompt_ids: Vec<u32>,
    #[serde(default)]
    output_tokens: Vec<u32>,
    #[serde(default)]
    prompt_logit_top5: Vec<(u32, f32)>,
}

/// Compares the checkpoint in the folder `model` with the vectors in the folder `vectors`.
pub fn published_layout(model: &Path, vectors: &Path, options: Options) -> Result<Vec<Quantity>> {
    let options = Arithmetic::F32.options(options);
    let compressor = Compressor::load(Source::Folder(model), &options)?;
    let decoder = Decoder::load(Source::Folder(model), &options)?;
    let index: Index = serde_json::from_slice(&std::fs::read(vectors.join("vectors.json"))?)?;
    let vectors = Vectors::read(&vectors.join("vectors.safetensors"))?;
    let mut quantities = Vec::new();
    for case in &index.cases {
        quantities.extend(numbers(case, &vectors, &compressor, &decoder)?);
    }
    for case in &index.scripted {
        quantities.extend(scripted(case, &decoder)?);
    }
    for case in &index.odd_inputs {
        quantities.extend(special_input(case, &compressor, &decoder)?);
    }
    Ok(quantities)
}

/// Compares latents and the logits after each prompt with the vectors in the folder `vectors`, computed with the data
/// type of `options`. The argmax must be that of the vectors if its lead is larger than the error of logits may be.
pub fn published_prompts(model: &Path, vectors: &Path, options: Options) -> Result<Vec<Quantity>> {
    let compressor = Compressor::load(Source::Folder(model), &options)?;
    let decoder = Decoder::load(Source::Folder(model), &options)?;
    let index: Index = serde_json::from_slice(&std::fs::read(vectors.join("vectors.json"))?)?;
    let vectors = Vectors::read(&vectors.join("vectors.safetensors"))?;
    let mut quantities = Vec::new();
    for case in &index.cases {
        let name = |what: &str| format!("golden-published-{:?}-{}-{what}", options.dtype, case.name).to_lowercase();
        let vector = |what: &str| vectors.floats(&format!("case{}.{what}", case.case));
        let latents = latents(&compressor, &case.context)?;
        let error = relative_error(&latents.values, vector("latents")?);
        quantities.push(Quantity::at_most(name("latents"), error, SERVED_TOLERANCE));
        let (logits, expected) = (decoder.prompt_logits(&case.prompt, &latents)?, vector("prompt_logits")?);
        quantities.push(Quantity::at_most(name("logits"), relative_error(&logits, expected), SERVED_TOLERANCE));
        let (best, lead) = best_with_lead(expected);
        let largest = expected.iter().fold(0.0f32, |largest, logit| largest.max(logit.abs()));
        let same = best_with_lead(&logits).0 == best;
        let clear = f64::from(lead) > SERVED_TOLERANCE * f64::from(largest);
        quantities.push(Quantity::observed(name("argmax"), (same, lead), same || !clear, "the same, or a small lead"));
    }
    Ok(quantities)
}

/// Returns the position of the largest logit, and its lead over the second largest.
fn best_with_lead(logits: &[f32]) -> (usize, f32) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    (order[0], logits[order[0]] - logits[order[1]])
}

fn latents(compressor: &Compressor, context: &str) -> Result<Latents> {
    let values = compressor.compress(&[&compressor.chat_context(context)?])?.remove(0);
    let width = compressor.info().latent_width;
    Ok(Latents { count: values.len() / width, values, width })
}

fn generate(prompt: &str, tokens_max: usize) -> Task {
    Task::Generate { prompt: prompt.to_owned(), tokens_max }
}

fn numbers(case: &Case, vectors: &Vectors, compressor: &Compressor, decoder: &Decoder) -> Result<Vec<Quantity>> {
    let name = |what: &str| format!("golden-published-f32-{}-{what}", case.name);
    let vector = |what: &str| vectors.floats(&format!("case{}.{what}", case.case));
    let latents = latents(compressor, &case.context)?;
    let projected = decoder.projected(&latents)?;
    let logits = decoder.prompt_logits(&case.prompt, &latents)?;
    let prompt = decoder.generation(&case.prompt, latents.count, 0)?.prompt().to_vec();
    let [of_latents, of_projected] = [vector("latents")?, vector("projected")?];
    let mut quantities = vec![
        Quantity::at_most(name("latents"), max_difference(&latents.values, of_latents), TOLERANCE),
        Quantity::at_most(name("projected"), max_difference(&projected, of_projected), TOLERANCE),
        Quantity::at_most(name("logits"), max_difference(&logits, vector("prompt_logits")?), TOLERANCE),
        Quantity::holds(name("prompt"), prompt == case.prompt_ids, "the vectors' ids"),
    ];
    let task = generate(&case.prompt, case.greedy_tokens.len());
    let (tokens, text) = decode(decoder, latents, task)?;
    quantities.push(Quantity::holds(name("greedy"), tokens == case.greedy_tokens, "the vectors' ids"));
    quantities.push(Quantity::equal(name("text"), text, case.returned_text.clone()));
    Ok(quantities)
}

fn scripted(case: &Scripted, decoder: &Decoder) -> Result<Vec<Quantity>> {
    let name = |what: &str| format!("golden-published-scripted-{}-{what}", case.name);
    let latents = decoder.info().latent_token_len;
    let mut generation = decoder.generation(&case.prompt, latents, case.max_new_tokens)?;
    let mut script = case.script.iter();
    while !generation.done() {
        let mut logits = vec![0.0; decoder.info().vocabulary];
        let end = vec![0];
        for (place, &id) in script.next().unwrap_or(&end).iter().enumerate() {
            logits[id as usize] = 30.0 - 5.0 * place as f32;
        }
        generation.push_greedy(&mut logits);
    }
    Ok(vec![
        Quantity::holds(name("prompt"), generation.prompt() == case.prompt_ids, "the vectors' ids"),
        Quantity::equal(name("tokens"), generation.tokens().to_vec(), case.output_tokens.clone()),
        Quantity::equal(name("raw"), generation.raw_text(), case.raw_decode.clone()),
        Quantity::equal(name("text"), generation.text(), case.returned_text.clone()),
    ])
}

fn special_input(case: &SpecialInput, compressor: &Compressor, decoder: &Decoder) -> Result<Vec<Quantity>> {
    let name = |what: &str| format!("golden-published-odd-{}-{what}", case.name);
    let run = || -> Result<_> {
        let latents = latents(compressor, &case.context)?;
        let prompt = decoder.generation(&case.prompt, latents.count, 0)?.prompt().to_vec();
        Ok((latents, prompt))
    };
    let (latents, prompt) = match (run(), &case.raises) {
        (Err(error), Some(raises)) => {
            let refused = error.downcast_ref::<c3_cascade::Error>();
            let ours = matches!(refused, Some(c3_cascade::Error::InvalidInput(_)));
            return Ok(vec![Quantity::observed(
                name("refused"),
                error.to_string(),
                ours,
                format!("an error, as {raises}"),
            )]);
        }
        (Ok(_), Some(raises)) => {
            return Ok(vec![Quantity::observed(name("refused"), "accepted", false, format!("an error, as {raises}"))]);
        }
        (run, None) => run?,
    };
    let logits = decoder.prompt_logits(&case.prompt, &latents)?;
    let top = case.prompt_logit_top5.iter();
    let difference = top.map(|&(id, logit)| f64::from((logits[id as usize] - logit).abs())).fold(0.0, f64::max);
    let (tokens, _) = decode(decoder, latents, generate(&case.prompt, case.output_tokens.len()))?;
    Ok(vec![
        Quantity::holds(name("prompt"), prompt == case.prompt_ids, "the vectors' ids"),
        Quantity::at_most(name("logits"), difference, TOLERANCE),
        Quantity::equal(name("tokens"), tokens, case.output_tokens.clone()),
    ])
}
