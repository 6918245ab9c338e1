//! Throughput of the stages relative to llama.cpp on the same model files.

use anyhow::Result;
use c3_cascade::{Kernels, TokenWindow};

use super::llama::Llama;
use super::rate;
use super::stages::{Stages, tokens};
use crate::harness::fixtures;
use crate::harness::quantity::{Quantity, median};

const RATIO: usize = 20;
/// Number of rounds, of which the median is reported.
const ROUNDS: usize = 7;
/// Number of windows of the single document.
const WINDOWS: usize = 20;
/// Number of documents decoded concurrently, and number of windows of each.
const DOCUMENTS: [usize; 2] = [8, 2];
/// Number of tokens of a llama.cpp prefill, which are as many as a full window has, and number of prefills.
const PREFILL: [usize; 2] = [640, 5];
/// Numbers of prompt tokens and generated tokens of llama.cpp. The decoder's prompt has the same length.
const GENERATION: [usize; 2] = [66, 128];

/// Tokens per second in each round.
#[derive(Default)]
struct Rates(Vec<f64>);

impl Rates {
    fn add(&mut self, rate: Result<f64>) -> Result<()> {
        self.0.push(rate?);
        Ok(())
    }

    fn median(&self) -> f64 {
        median(self.0.clone())
    }
}

/// Measures the rates of the stages and of llama.cpp in interleaved rounds; for each stage, the quotient of the two
/// medians must reach the bound that is listed below.
pub fn relative_to_llama(text: &str) -> Result<Vec<Quantity>> {
    let stages = Stages::served(Kernels::Auto)?;
    let windows = stages.windows(text, RATIO, WINDOWS)?;
    let latents = stages.stored(&windows)?;
    let several = DOCUMENTS[0] * DOCUMENTS[1];
    let model = fixtures::default_model();
    let mut first = Llama::with_best_settings(&model.join("compressor.gguf"), PREFILL[0])?;
    let mut second = Llama::with_best_settings(&model.join("decoder.gguf"), PREFILL[0])?;
    let [mut compress, mut verify, mut document, mut documents, mut window] = [(); 5].map(|()| Rates::default());
    let [mut reads_first, mut reads_second, mut writes] = [(); 3].map(|()| Rates::default());
    for _ in 0..ROUNDS {
        compress.add(rate(tokens(&windows), || stages.compress(&windows)))?;
        reads_first.add(first.prefill(PREFILL[0], PREFILL[1]))?;
        verify.add(rate(tokens(&windows), || stages.verify(&windows, &latents)))?;
        reads_second.add(second.prefill(PREFILL[0], PREFILL[1]))?;
        document.add(rate(tokens(&windows), || stages.decode(&windows, &latents, 0)))?;
        writes.add(second.generation(GENERATION[0], GENERATION[1]))?;
        let some = (&windows[..several], &latents[..several]);
        documents.add(rate(tokens(some.0), || stages.decode(some.0, some.1, 0)))?;
        window.add(rate(tokens(&windows[..1]), || stages.decode(&windows[..1], &latents[..1], 0)))?;
    }
    let reported = [
        ("compress", &compress),
        ("verify", &verify),
        ("decode-document", &document),
        ("decode-8-documents", &documents),
        ("decode-window", &window),
        ("llama-prefill-compressor", &reads_first),
        ("llama-prefill-decoder", &reads_second),
        ("llama-generation", &writes),
    ];
    let mut quantities: Vec<Quantity> = reported
        .into_iter()
        .map(|(name, rates)| {
            Quantity::observed(format!("rate-{name}"), rates.median(), true, "tokens per second, reported only")
        })
        .collect();
    quantities.push(Quantity::reported("llama-settings", [&first.settings, &second.settings]));
    for (name, ours, theirs, bound) in [
        ("compress", &compress, &reads_first, 1.2),
        ("verify", &verify, &reads_second, 1.0),
        ("decode-document", &document, &writes, 4.0),
        ("decode-8-documents", &documents, &reads_second, 1.0),
        ("decode-window", &window, &writes, 2.5),
    ] {
        quantities.push(Quantity::at_least(format!("{name}-over-llama"), ours.median() / theirs.median(), bound));
    }
    Ok(quantities)
}

/// Compares a batch of windows (parts of a text) of very different lengths with the same tokens in windows of equal
/// length; it must reach 90 % of their rate.
pub fn mixed(text: &str) -> Result<Vec<Quantity>> {
    const WINDOWS: usize = 16;
    const RATIO: usize = 80;
    let stages = Stages::served(Kernels::Auto)?;
    let all: Vec<u32> = stages.windows(text, RATIO, usize::MAX)?.into_iter().flat_map(|window| window.tokens).collect();
    let cut = |lengths: &[usize]| -> Vec<TokenWindow> {
        let mut rest = all.as_slice();
        let mut next = |&length: &usize| {
            let (tokens, others) = rest.split_at(length);
            rest = others;
            TokenWindow { tokens: tokens.to_vec(), ratio: RATIO, bytes: 0..0 }
        };
        lengths.iter().map(&mut next).collect()
    };
    // Evenly spaced lengths in shuffled order, from 1 to 2,560 tokens, the maximum of a window at 80x.
    let lengths: Vec<usize> = (0..WINDOWS).map(|i| 1 + i * 7 % WINDOWS * 2559 / (WINDOWS - 1)).collect();
    let equal = lengths.iter().sum::<usize>() / WINDOWS;
    let (mixed, equal) = (cut(&lengths), cut(&[equal; WINDOWS]));
    let (mixed_latents, equal_latents) = (stages.stored(&mixed)?, stages.stored(&equal)?);
    // Each round yields one quotient of two rates. The order of the two measurements alternates, because the CPU's
    // clock speed drifts.
    let (mut compress, mut verify) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let over = |one: &dyn Fn() -> Result<f64>, other: &dyn Fn() -> Result<f64>| -> Result<f64> {
            let (one, other) = if round % 2 == 0 {
                let one = one()?;
                (one, other()?)
            } else {
                let other = other()?;
                (one()?, other)
            };
            Ok(one / other)
        };
        compress.push(over(&|| rate(tokens(&mixed), || stages.compress(&mixed)), &|| {
            rate(tokens(&equal), || stages.compress(&equal))
        })?);
        verify.push(over(&|| rate(tokens(&mixed), || stages.verify(&mixed, &mixed_latents)), &|| {
            rate(tokens(&equal), || stages.verify(&equal, &equal_latents))
        })?);
    }
    Ok(vec![
        Quantity::at_least("mixed-compress-over-equal", median(compress), 0.9),
        Quantity::at_least("mixed-verify-over-equal", median(verify), 0.9),
    ])
}
