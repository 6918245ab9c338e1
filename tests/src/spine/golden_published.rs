//! The published layout against what the published PyTorch code computes.

use std::path::Path;

use anyhow::{Context, Result};
use c3_cascade::{Compressor, DecodeWindow, Decoder, Latents, Options, Source, Task, VerifyWindow};
use serde_json::Value;

use crate::row::Row;
use crate::vectors::{Vectors, ids, largest_difference, text};

/// What golden/README.md finds to tell right from wrong.
const TOLERANCE: f64 = 1e-4;
/// Every so manieth token id has its logit looked at.
const LOGIT_STRIDE: usize = 61;

/// All cases, scripted answers and odd inputs.
pub(crate) fn rows(name: &str, model: &Path, vectors: &Vectors, options: &Options) -> Result<Vec<Row>> {
    let stages = Stages {
        compressor: Compressor::load(Source::Folder(model), options)?,
        decoder: Decoder::load(Source::Folder(model), options)?,
    };
    let mut worst = Worst::default();
    let cases = vectors.list("cases")?;
    for (number, case) in cases.iter().enumerate() {
        stages.case(case, &format!("case{number}"), vectors, &mut worst)?;
    }
    let scripted = vectors.list("scripted")?;
    let scripted_right = count(scripted, |script| stages.scripted(script))?;
    let odd = vectors.list("odd_inputs")?;
    let odd_right = count(odd, |input| stages.odd(input))?;
    let arithmetic = stages.decoder.info().arithmetic.clone();
    Ok(vec![
        Row::seen(format!("{name}-path"), &arithmetic, arithmetic.ends_with("f32"), "f32"),
        Row::at_most(format!("{name}-latents"), worst.latents, TOLERANCE),
        Row::at_most(format!("{name}-projected"), worst.projected, TOLERANCE),
        Row::at_most(format!("{name}-logits"), worst.logits, TOLERANCE),
        Row::at_most(format!("{name}-greedy-margins"), worst.margins, TOLERANCE),
        Row::equal(format!("{name}-greedy"), worst.greedy_right, cases.len()),
        Row::equal(format!("{name}-scripted"), scripted_right, scripted.len()),
        Row::equal(format!("{name}-odd-inputs"), odd_right, odd.len()),
    ])
}

fn count(cases: &[Value], right: impl Fn(&Value) -> Result<bool>) -> Result<usize> {
    cases.iter().try_fold(0, |count, case| Ok(count + usize::from(right(case)?)))
}

/// Largest differences so far.
#[derive(Default)]
struct Worst {
    latents: f64,
    projected: f64,
    logits: f64,
    margins: f64,
    greedy_right: usize,
}

struct Stages {
    compressor: Compressor,
    decoder: Decoder,
}

impl Stages {
    fn case(&self, case: &Value, key: &str, vectors: &Vectors, worst: &mut Worst) -> Result<()> {
        let latents = self.latents(text(case, "context")?)?;
        let expected = vectors.floats(&format!("{key}.latents"))?;
        worst.latents = worst.latents.max(largest_difference(&latents.values, &expected));
        let projected = vectors.floats(&format!("{key}.projected"))?;
        worst.projected =
            worst.projected.max(largest_difference(&self.decoder.projected(&latents)?, &projected));
        let logits = vectors.floats(&format!("{key}.prompt_logits"))?;
        worst.logits = worst.logits.max(self.logits_differ(&latents, &logits)?);

        let greedy = ids(&case["greedy_tokens"])?;
        let ratio = greedy.len().div_ceil(latents.count);
        let window = VerifyWindow { latents: &latents, tokens: &greedy, ratio };
        let verdicts = self.decoder.verify(&[window])?;
        let margins: Vec<f32> = verdicts.concat().iter().map(|verdict| verdict.margin).collect();
        let expected = vectors.floats(&format!("{key}.greedy_margins"))?;
        worst.margins = worst.margins.max(largest_difference(&margins, &expected));

        let (tokens, answer) = self.chat(latents, text(case, "prompt")?, greedy.len())?;
        worst.greedy_right += usize::from(tokens == greedy && answer == text(case, "returned_text")?);
        Ok(())
    }

    /// Largest difference of the logits behind the prompt, each less the largest other, over a share of the ids.
    fn logits_differ(&self, latents: &Latents, expected: &[f32]) -> Result<f64> {
        let is_text = |id: &usize| self.decoder.text(&[*id as u32]).is_ok();
        let ids: Vec<usize> = (0..expected.len()).step_by(LOGIT_STRIDE).filter(is_text).collect();
        let tokens: Vec<[u32; 1]> = ids.iter().map(|&id| [id as u32]).collect();
        let windows: Vec<_> =
            tokens.iter().map(|tokens| VerifyWindow { latents, tokens, ratio: 1 }).collect();
        let margins: Vec<f32> = self.decoder.verify(&windows)?.concat().iter().map(|v| v.margin).collect();
        let mut ranked: Vec<(usize, f32)> = expected.iter().copied().enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        let best_other = |id: usize| if ranked[0].0 == id { ranked[1].1 } else { ranked[0].1 };
        let expected: Vec<f32> = ids.iter().map(|&id| expected[id] - best_other(id)).collect();
        Ok(largest_difference(&margins, &expected))
    }

    fn latents(&self, context: &str) -> Result<Latents> {
        let window = self.compressor.chat_context(context)?;
        let values = self.compressor.compress(&[&window])?.concat();
        let width = self.compressor.info().latent_width;
        Ok(Latents { count: values.len() / width, width, values })
    }

    /// Tokens and text of an answer.
    fn chat(&self, latents: Latents, prompt: &str, tokens_max: usize) -> Result<(Vec<u32>, String)> {
        let task = Task::Generate { prompt: prompt.to_owned(), tokens_max };
        let mut decoding = self.decoder.start(DecodeWindow { latents, task })?;
        while !decoding.done() {
            self.decoder.step(&mut [&mut decoding])?;
        }
        Ok((decoding.token_ids().to_vec(), String::from_utf8(decoding.take_text())?))
    }

    /// The loop, the ban, the stop rules and the final text, without the numbers.
    fn scripted(&self, case: &Value) -> Result<bool> {
        let limit = case["max_new_tokens"].as_u64().context("no limit")? as usize;
        let latents = self.decoder.info().latent_token_len;
        let mut generation = self.decoder.generation(text(case, "prompt")?, latents, limit)?;
        let script = case["script"].as_array().context("no script")?;
        let mut prompt_right = generation.prompt() == ids(&case["prompt_ids"])?;
        while !generation.done() {
            let mut logits = vec![0.0; self.decoder.info().vocabulary];
            let wanted = script.get(generation.tokens().len()).map_or(Ok(vec![0]), ids)?;
            for (rank, id) in wanted.iter().enumerate() {
                logits[*id as usize] = 30.0 - 5.0 * rank as f32;
            }
            generation.write(&mut logits);
        }
        prompt_right &= generation.tokens() == ids(&case["output_tokens"])?;
        Ok(prompt_right
            && generation.raw_text() == text(case, "raw_decode")?
            && generation.text() == text(case, "returned_text")?)
    }

    /// Special tokens in context and prompt: an error where the published code raises, its tokens where not.
    fn odd(&self, case: &Value) -> Result<bool> {
        let (context, prompt) = (text(case, "context")?, text(case, "prompt")?);
        let answer = self.latents(context).and_then(|latents| self.chat(latents, prompt, 4));
        match (&case["raises"], answer) {
            (Value::Null, Ok((tokens, _))) => Ok(tokens == ids(&case["output_tokens"])?),
            (Value::Null, Err(_)) | (_, Ok(_)) => Ok(false),
            (_, Err(_)) => Ok(true),
        }
    }
}
